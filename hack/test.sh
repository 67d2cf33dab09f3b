#!/usr/bin/env bash
# Every check and every test there is, in the order in which they are quick to fail; says where the time went.
#
# `make test` calls it. The layers can be run one by one: make check, site, unit, contract, trainer, local, e2e.
source "$(dirname "$0")/env.sh"
cd "$ROOT"

names=() times=()
report() {
    printf '\nWhere the time went (seconds):\n'
    for index in "${!names[@]}"; do printf '  %-12s %6d\n' "${names[$index]}" "${times[$index]}"; done
    printf '  %-12s %6d\n' total "$SECONDS"
}
trap report EXIT

for layer in venv check site unit report tools contract model trainer local ground e2e; do
    start=$SECONDS
    printf '\n=== make %s\n' "$layer"
    make --no-print-directory "$layer"
    names+=("$layer")
    times+=($((SECONDS - start)))
done
