#!/usr/bin/env bash
# Makes sure that a Docker engine answers. cluster.sh and images.sh call it.
#
# An engine that is there is used as it is. Where there is none, Debian's is installed (as root) and started with a data
# directory and a socket of its own under $CACHE; its process id is recorded, and cluster_down.sh stops that one alone.
source "$(dirname "$0")/env.sh"

PID=$CACHE/dockerd.pid

# A docker client without BuildKit's buildx may stand earlier on PATH than Debian's, which builds without it.
if [ -x /usr/bin/docker ]; then ln -sf /usr/bin/docker "$BIN/docker"; fi
if docker info >/dev/null 2>&1; then exit 0; fi

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "No Docker engine answers. Start one (or set DOCKER_HOST) and run this again." >&2
    exit 1
fi
if ! command -v dockerd >/dev/null || ! command -v debootstrap >/dev/null; then
    step "install docker.io" bash -c "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends docker.io debootstrap"
    ln -sf /usr/bin/docker "$BIN/docker"
fi

# A runtime that asks for no capability which this machine lacks (runc_bounded.py); where none is lacking, runc's own.
runtime=()
all=$(printf '%016x' $(((1 << ($(cat /proc/sys/kernel/cap_last_cap) + 1)) - 1)))
if [ "$(awk '/^CapBnd/{print $2}' /proc/self/status)" != "$all" ]; then
    { printf '#!%s\n' "$(python3 -c 'import sys; print(sys.executable)')"; cat "$ROOT/hack/runc_bounded.py"; } >"$BIN/runc-bounded"
    chmod +x "$BIN/runc-bounded"
    runtime=(--add-runtime "bounded=$BIN/runc-bounded" --default-runtime bounded)
fi

setsid nohup dockerd --data-root "$CACHE/docker" --exec-root "$CACHE/docker-run" --pidfile "$CACHE/dockerd.lock" \
    --host "unix://$DOCKER_SOCKET" "${runtime[@]}" >"$LOGS/dockerd.log" 2>&1 </dev/null &
echo $! >"$PID"
export DOCKER_HOST=unix://$DOCKER_SOCKET
for _ in $(seq 60); do
    if docker info >/dev/null 2>&1; then
        printf '%-40s\n' "dockerd answers at $DOCKER_HOST"
        exit 0
    fi
    if ! kill -0 "$(cat "$PID")" 2>/dev/null; then break; fi
    read -rt 1 <> <(:) || :
done
echo "dockerd did not start; the end of $LOGS/dockerd.log:" >&2
tail -n 30 "$LOGS/dockerd.log" >&2
exit 1
