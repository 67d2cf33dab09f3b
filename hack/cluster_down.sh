#!/usr/bin/env bash
# Removes the cluster that cluster.sh made and stops the Docker engine that docker.sh started, and nothing else.
# `make cluster-down` and .ci/run call it. What was built stays in $CACHE.
source "$(dirname "$0")/env.sh"

if [ -f "$CACHE/cluster.made" ] && command -v kind >/dev/null && docker info >/dev/null 2>&1; then
    step "kind delete cluster" kind delete cluster --name "$CLUSTER" --kubeconfig "$CACHE/kubeconfig"
fi
rm -f "$CACHE/cluster.made" "$CACHE/kubeconfig"

if pid=$(our_dockerd); then
    kill "$pid"
    # dockerd gives each container ten seconds to stop.
    for _ in $(seq 60); do
        if ! kill -0 "$pid" 2>/dev/null; then
            rm -f "$DOCKER_SOCKET"
            echo "dockerd $pid is stopped"
            exit 0
        fi
        pause
    done
    echo "dockerd $pid was told to stop and still runs after 60 s; see $LOGS/dockerd.log" >&2
    exit 1
fi
