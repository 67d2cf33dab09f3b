# What every script of the test ground shares: where things are kept, how long work is shown. Sourced, not run.
#
# Everything that is built or started for the tests lies under $CACHE, outside the checkout, so that a second clone and
# CI find it warm. Nothing here touches a Docker engine or a cluster that the user already has.
set -euo pipefail

CACHE=${FINETUNE_CACHE:-$HOME/.cache/finetune-operator}
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BIN=$CACHE/bin
LOGS=$CACHE/logs
CLUSTER=finetune
NODE=$CLUSTER-control-plane
mkdir -p "$BIN" "$LOGS"
export PATH=$BIN:$PATH

# Our own engine, when we started one (docker.sh), goes before the machine's.
DOCKER_SOCKET=$CACHE/docker.sock
[ -S "$DOCKER_SOCKET" ] && export DOCKER_HOST=unix://$DOCKER_SOCKET

# step NAME COMMAND...: run a command with its output in a log; a line every half minute, the log's end on failure.
step() {
    local name=$1 log=$LOGS/${1//[^a-z0-9-]/-}.log start=$SECONDS status=0
    shift
    "$@" >"$log" 2>&1 &
    local work=$!
    while kill -0 "$work" 2>/dev/null; do
        read -rt 1 <> <(:) || :
        if ((SECONDS > start && (SECONDS - start) % 30 == 0)); then
            printf '  … %s, %d s: %.100s\n' "$name" $((SECONDS - start)) "$(tail -n 1 "$log" | tr -d '\r')"
        fi
    done
    wait "$work" || status=$?
    if ((status)); then
        printf '%s failed after %d s; the end of %s:\n' "$name" $((SECONDS - start)) "$log" >&2
        tail -n 40 "$log" >&2
        return "$status"
    fi
    printf '%-40s %5d s\n' "$name" $((SECONDS - start))
}

# inputs_of FILE...: a digest of files (and of literal words that are no files).
inputs_of() {
    for input in "$@"; do
        if [ -f "$input" ]; then cat "$input"; else printf '%s\n' "$input"; fi
    done | sha256sum | cut -c1-16
}

# fresh STAMP DIGEST: whether what STAMP stands for was made from the same inputs.
fresh() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }
