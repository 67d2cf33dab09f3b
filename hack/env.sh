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

# dockerd writes its process id there itself, and takes it away when it ends: two that start at once can't mix them up.
DOCKERD_PID=$CACHE/dockerd.pid
DOCKER_SOCKET=$CACHE/docker.sock

# our_dockerd: the process id of the engine that docker.sh started, while it runs. A recorded id may be another's by now.
our_dockerd() {
    local pid
    pid=$(cat "$DOCKERD_PID" 2>/dev/null) || return 1
    { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -F -- "dockerd --data-root $CACHE/docker " >/dev/null && echo "$pid"
}

# Our own engine, while we have one, goes before the machine's.
if our_dockerd >/dev/null; then export DOCKER_HOST=unix://$DOCKER_SOCKET; fi

# pause: one second, without a process.
pause() { read -rt 1 <> <(:) || :; }

# step NAME COMMAND...: run a command with its output in a log; a line every half minute, the log's end on failure.
# The command has a process group of its own, so that an interrupted make leaves no build behind.
step() {
    local name=$1 log=$LOGS/${1//[^a-z0-9-]/-}.log start=$SECONDS shown=0 status=0 work
    shift
    set -m
    "$@" >"$log" 2>&1 </dev/null &
    work=$!
    set +m
    trap 'kill -- -$work 2>/dev/null; exit 130' INT TERM
    while kill -0 "$work" 2>/dev/null; do
        pause
        if ((SECONDS - start >= shown + 30)); then
            shown=$((SECONDS - start))
            printf '  … %s, %d s: %.100s\n' "$name" "$shown" "$(tail -n 1 "$log" | tr -d '\r')"
        fi
    done
    wait "$work" || status=$?
    trap - INT TERM
    if ((status)); then
        printf '%s failed after %d s; the end of %s:\n' "$name" $((SECONDS - start)) "$log" >&2
        tail -n 40 "$log" >&2
        return "$status"
    fi
    printf '%-40s %5d s\n' "$name" $((SECONDS - start))
}

# debian_packages PACKAGE...: install what is missing, or say what to install where that isn't ours to do.
debian_packages() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "$* must be installed first; on Debian or Ubuntu: sudo apt-get install $*" >&2
        return 1
    fi
    step "install $*" bash -c "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $*"
}

# inputs_of FILE...: a digest of files (and of literal words that are no files).
inputs_of() {
    for input in "$@"; do
        if [ -f "$input" ]; then cat "$input"; else printf '%s\n' "$input"; fi
    done | sha256sum | cut -c1-16
}

# fresh STAMP DIGEST: whether what STAMP stands for was made from the same inputs.
fresh() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }
