#!/usr/bin/env bash
# Every check and every test there is, in the order in which they are quick to fail; says where the time went.
#
# `make test` calls it. The layers can be run one by one: make check, site, unit, contract, trainer, local, e2e. Two of
# them run beside others that wait for a network or for pods, at the lowest priority, and are shown
# when their turn comes.
source "$(dirname "$0")/env.sh"
cd "$ROOT"

names=() times=()
declare -A begun
report() {
    for process in "${begun[@]}"; do kill -- "-$process" 2>/dev/null || :; done
    printf '\nWhere the time went (seconds):\n'
    for index in "${!names[@]}"; do printf '  %-12s %6d\n' "${names[$index]}" "${times[$index]}"; done
    printf '  %-12s %6d\n' total "$SECONDS"
}
trap report EXIT

# begin LAYER: run it beside the next ones. Its session is a scheduling group of its own, where there are such.
begin() {
    setsid bash -c 'echo 19 2>/dev/null >/proc/self/autogroup; exec nice -n 19 make --no-print-directory "$0"' "$1" \
        >"$LOGS/make-$1.log" 2>&1 </dev/null &
    begun[$1]=$!
}

# finish LAYER: show what it says until it ends.
finish() {
    local status=0
    tail -n +1 -f --pid="${begun[$1]}" "$LOGS/make-$1.log"
    wait "${begun[$1]}" || status=$?
    unset "begun[$1]"
    return "$status"
}

layer() {
    local start=$SECONDS status=0
    printf '\n=== make %s\n' "$1"
    if [ -n "${begun[$1]:-}" ]; then finish "$1" || status=$?; else make --no-print-directory "$1" || status=$?; fi
    names+=("$1")
    times+=($((SECONDS - start)))
    return "$status"
}

begin tools
for name in venv site tools check unit report contract model local; do layer "$name"; done
begin trainer
for name in ground e2e trainer; do layer "$name"; done
