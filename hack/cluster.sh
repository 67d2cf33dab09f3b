#!/usr/bin/env bash
# Makes the kind cluster of the tests ready and leaves its kubeconfig at $CACHE/kubeconfig. `make cluster` calls it.
#
# A cluster named by KUBECONFIG is honoured: nothing is made then. Where Docker's registry can be reached the node is
# kind's official image; elsewhere it is built from modules and packages (node_image.sh).
source "$(dirname "$0")/env.sh"

"$ROOT/hack/tools.sh"
if [ -n "${KUBECONFIG:-}" ] && [ "$KUBECONFIG" != "$CACHE/kubeconfig" ]; then
    echo "Using the cluster of KUBECONFIG ($KUBECONFIG); no cluster is made."
    exit 0
fi
"$ROOT/hack/docker.sh"
source "$ROOT/hack/env.sh"
export KUBECONFIG=$CACHE/kubeconfig
# Held until the cluster is ready: images.sh loads nothing into half a node.
exec 8>"$CACHE/cluster.lock"
flock 8

# ready: whether the node runs and its API server answers; a busy machine may need a moment, a stopped node gets none.
ready() {
    [ "$(docker inspect -f '{{.State.Running}}' "$NODE" 2>/dev/null)" = true ] || return 1
    kind export kubeconfig --name "$CLUSTER" --kubeconfig "$KUBECONFIG" >/dev/null 2>&1 || return 1
    for _ in $(seq 30); do
        if kubectl wait --for=condition=Ready "node/$NODE" --timeout=60s >/dev/null 2>&1; then return 0; fi
        pause
    done
    return 1
}

if kind get clusters 2>/dev/null | grep -x "$CLUSTER" >/dev/null; then
    if [ ! -f "$CACHE/cluster.made" ]; then
        echo "There is a kind cluster named $CLUSTER that this did not make. Use it with KUBECONFIG, or delete it first." >&2
        exit 1
    fi
    if ready; then
        echo "Cluster $CLUSTER is ready; its kubeconfig is $KUBECONFIG"
        exit 0
    fi
    step "kind delete cluster" kind delete cluster --name "$CLUSTER" --kubeconfig "$KUBECONFIG"
fi

# A node is Ready before names resolve and volumes are made; the first pod of a test needs both.
serving() {
    kubectl rollout status daemonset -n kube-system --timeout=900s
    kubectl rollout status deployment/coredns -n kube-system --timeout=900s
    kubectl rollout status deployment/local-path-provisioner -n local-path-storage --timeout=900s
}

config=$(mktemp)
trap 'rm -f "$config"' EXIT
printf 'kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n' >"$config"
official=$(sed -n 's/^const Image = "\(.*\)"/\1/p' "$(go mod download -json sigs.k8s.io/kind@v0.32.0 |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')/pkg/apis/config/defaults/image.go")
if docker image inspect "$official" >/dev/null 2>&1 || timeout 900 docker pull -q "$official" >/dev/null 2>&1; then
    node=$official
else
    "$ROOT/hack/node_image.sh"
    node=finetune.dev/node:v1.34.4
fi

# Ours from here on, so that what an interrupted creation leaves behind may be deleted.
touch "$CACHE/cluster.made"
step "kind create cluster" kind create cluster --name "$CLUSTER" --image "$node" --config "$config" --kubeconfig "$KUBECONFIG" --wait 900s
step "network, DNS and storage" serving
echo "Cluster $CLUSTER is ready; its kubeconfig is $KUBECONFIG"
