#!/usr/bin/env bash
# Builds docs/, README.md and the examples as a site, into .cache/site/html. Called by `make site`; a link or an anchor that
# leads nowhere, or a page that no menu names, ends it.
#
# mkdocs has an environment of its own, .cache/site/env, from constraints/site.txt: nothing else here needs it.
set -euo pipefail
cd "$(dirname "$0")/.."

site=.cache/site
pages=$site/pages
stamp=$site/.stamp
inputs=$({ "${PYTHON:-python3}" --version; cat constraints/site.txt hack/site.sh; } | sha256sum)
if [[ ! -f $stamp || $(<$stamp) != "$inputs" ]]; then
  rm -rf "$site/env"
  "${PYTHON:-python3}" -m venv "$site/env"
  "$site/env/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement constraints/site.txt
  echo "$inputs" >"$stamp"
fi

# mkdocs takes one directory.
rm -rf "$pages"
mkdir -p "$pages"
cp README.md ARCHITECTURE.md CHANGELOG.md CONTRIBUTING.md "$pages/"
cp -r docs examples "$pages/"
# What mkdocs-material tells of its successor is no warning of ours.
NO_MKDOCS_2_WARNING=1 "$site/env/bin/mkdocs" build --strict
echo "$site/html/index.html"
