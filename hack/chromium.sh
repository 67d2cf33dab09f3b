#!/usr/bin/env bash
# Makes sure that a Chromium is there to look at the report and the web page with. `make report` and `contract` call it.
source "$(dirname "$0")/env.sh"

if ! command -v chromium >/dev/null; then debian_packages chromium; fi
