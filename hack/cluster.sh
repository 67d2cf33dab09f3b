#!/usr/bin/env bash
# Makes the kind cluster of the tests ready and leaves its kubeconfig at $CACHE/kubeconfig. `make cluster` calls it.
#
# A cluster named by KUBECONFIG is honoured: nothing is made then. Where Docker's registry can be reached the node is
# kind's official image; elsewhere it is built from modules and packages (node_image.sh).
source "$(dirname "$0")/env.sh"

if [ -n "${KUBECONFIG:-}" ] && [ "$KUBECONFIG" != "$CACHE/kubeconfig" ]; then
    echo "Using the cluster of KUBECONFIG ($KUBECONFIG); no cluster is made."
    exit 0
fi
"$ROOT/hack/tools.sh"
"$ROOT/hack/docker.sh"
source "$ROOT/hack/env.sh"
export KUBECONFIG=$CACHE/kubeconfig

if kind get clusters 2>/dev/null | grep -qx "$CLUSTER" && kubectl get --raw /readyz >/dev/null 2>&1; then
    echo "Cluster $CLUSTER is ready; its kubeconfig is $KUBECONFIG"
    exit 0
fi

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
    printf 'networking: {disableDefaultCNI: true}\n' >>"$config"
fi

kind delete cluster --name "$CLUSTER" >/dev/null 2>&1
step "kind create cluster" kind create cluster --name "$CLUSTER" --image "$node" --config "$config" --kubeconfig "$KUBECONFIG" --wait 180s
date +%s >"$CACHE/cluster.made"
echo "Cluster $CLUSTER is ready; its kubeconfig is $KUBECONFIG"
