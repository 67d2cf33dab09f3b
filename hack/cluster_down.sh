#!/usr/bin/env bash
# Removes the cluster that cluster.sh made and stops the Docker engine that docker.sh started, and nothing else.
# `make cluster-down` and .ci/run call it. What was built stays in $CACHE.
source "$(dirname "$0")/env.sh"

if [ -f "$CACHE/cluster.made" ] && command -v kind >/dev/null && docker info >/dev/null 2>&1; then
    step "kind delete cluster" kind delete cluster --name "$CLUSTER" --kubeconfig "$CACHE/kubeconfig"
fi
rm -f "$CACHE/cluster.made" "$CACHE/kubeconfig"

if [ -f "$CACHE/dockerd.pid" ]; then
    pid=$(cat "$CACHE/dockerd.pid")
    if kill "$pid" 2>/dev/null; then
        while kill -0 "$pid" 2>/dev/null; do read -rt 1 <> <(:) || :; done
        echo "dockerd $pid is stopped"
    fi
    rm -f "$CACHE/dockerd.pid" "$DOCKER_SOCKET"
fi
