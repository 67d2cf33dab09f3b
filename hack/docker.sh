#!/usr/bin/env bash
# Makes sure that a Docker engine answers. cluster.sh and images.sh call it.
#
# An engine that is there is used as it is. Where there is none, Debian's is installed (as root) and started with a data
# directory and a socket of its own under $CACHE; cluster_down.sh stops that one alone. env.sh sets DOCKER_HOST to it.
source "$(dirname "$0")/env.sh"

# A docker client without BuildKit's buildx may stand earlier on PATH than Debian's, which builds without it.
debian_client() { if [ -x /usr/bin/docker ]; then ln -sfn /usr/bin/docker "$BIN/docker"; fi; }

# Whoever comes second, while `make ground` makes cluster and images at once, finds what the first has started.
exec 9>"$CACHE/docker.lock"
flock 9
source "$ROOT/hack/env.sh"
debian_client
if docker info >/dev/null 2>&1; then exit 0; fi
if our_dockerd >/dev/null; then
    echo "The Docker engine of $CACHE runs and doesn't answer; see $LOGS/dockerd.log, or stop it with make cluster-down." >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "No Docker engine answers. Start one (or set DOCKER_HOST) and run this again." >&2
    exit 1
fi
if ! command -v dockerd >/dev/null; then
    debian_packages docker.io
    debian_client
    # Where services are started on installation, the engine is there now.
    if docker info >/dev/null 2>&1; then exit 0; fi
fi

# A runtime that asks for no capability which this machine lacks (runc_bounded.py); where none is lacking, runc's own.
runtime=()
all=$(printf '%016x' $(((1 << ($(cat /proc/sys/kernel/cap_last_cap) + 1)) - 1)))
if [ "$(awk '/^CapBnd/{print $2}' /proc/self/status)" != "$all" ]; then
    { printf '#!%s\n' "$(python3 -c 'import sys; print(sys.executable)')"; cat "$ROOT/hack/runc_bounded.py"; } >"$BIN/runc-bounded"
    chmod +x "$BIN/runc-bounded"
    runtime=(--add-runtime "bounded=$BIN/runc-bounded" --default-runtime bounded)
fi

# An id left by an engine that was killed would keep the next one from starting. our_dockerd knows this command line.
rm -f "$DOCKERD_PID"
setsid nohup dockerd --data-root "$CACHE/docker" --exec-root "$CACHE/docker-run" --pidfile "$DOCKERD_PID" \
    --host "unix://$DOCKER_SOCKET" "${runtime[@]}" >"$LOGS/dockerd.log" 2>&1 </dev/null 9>&- &
started=$!
export DOCKER_HOST=unix://$DOCKER_SOCKET
for _ in $(seq 300); do
    if docker info >/dev/null 2>&1; then
        echo "dockerd answers at $DOCKER_HOST"
        exit 0
    fi
    if ! kill -0 "$started" 2>/dev/null; then break; fi
    pause
done
echo "dockerd did not start; the end of $LOGS/dockerd.log:" >&2
tail -n 30 "$LOGS/dockerd.log" >&2
exit 1
