#!/usr/bin/env bash
# images.sh [NAME...]: builds the project's images and loads them into the kind cluster, if there is one yet.
#
# `make images` calls it. They are built on Debian with the few packages they need (debian.sh): the operator's Python, the
# trainer's torch for CPUs. They are built side by side: each mostly waits for a network, a disk or one core. An image that
# the nodes have already is not loaded again.
source "$(dirname "$0")/env.sh"
"$ROOT/hack/tools.sh"
"$ROOT/hack/docker.sh"
source "$ROOT/hack/env.sh"

TAG=dev
CA=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}

# The build may stand behind a proxy with an authority of its own: it sees the host's, and the image keeps no trace.
secret=()
if [ -f "$CA" ]; then secret=(--secret "id=ca,src=$CA"); fi

build() {
    local name=$1 dockerfile=$2 context=$3 image=finetune.dev/$1:$TAG before
    shift 3
    before=$(docker image inspect -f '{{.Id}}' "$image" 2>/dev/null || :)
    DOCKER_BUILDKIT=1 step "image $name" docker build --progress=plain -t "$image" -f "$dockerfile" "${secret[@]}" "$@" "$context"
    # The one it takes the name from would only fill the disk; one that a container still uses stays.
    if [ -n "$before" ] && [ "$before" != "$(docker image inspect -f '{{.Id}}' "$image")" ]; then
        docker rmi "$before" >/dev/null 2>&1 || :
    fi
}

# nodes: the kind nodes that images go to: our cluster's, or those of the kind cluster that KUBECONFIG names.
nodes() {
    local context
    if [ -z "${KUBECONFIG:-}" ] || [ "$KUBECONFIG" = "$CACHE/kubeconfig" ]; then
        kind get nodes --name "$CLUSTER" 2>/dev/null
        return
    fi
    context=$(kubectl config current-context 2>/dev/null || echo "The context of $KUBECONFIG")
    case $context in
        kind-*) kind get nodes --name "${context#kind-}" ;;
        *) echo "$context is no kind cluster: push the images to where it can pull them." >&2 ;;
    esac
}

load() {
    local image=finetune.dev/$1:$TAG id node
    id=$(docker image inspect -f '{{.Id}}' "$image")
    flock "$CACHE/cluster.lock" true
    for node in $(nodes); do
        if docker exec "$node" sh -c "[ \"\$(cat /kind/loaded-$1)\" = $id ] && ctr -n k8s.io images ls -q | grep -x $image" >/dev/null 2>&1; then
            continue
        fi
        step "load $1" bash -c "set -o pipefail; docker save '$image' | docker exec -i '$node' ctr -n k8s.io images import -"
        docker exec "$node" sh -c "echo $id >/kind/loaded-$1"
    done
}

one() {
    case $1 in
        operator)
            "$ROOT/hack/debian.sh" debian ca-certificates python3 python3-venv
            build operator "$ROOT/operator/Dockerfile" "$ROOT" --build-arg BASE_IMAGE=finetune.dev/debian:trixie
            ;;
        trainer)
            "$ROOT/hack/debian.sh" debian-torch ca-certificates python3 python3-venv python3-torch libopenblas0-openmp
            build trainer "$ROOT/trainer/Dockerfile" "$ROOT" --build-arg BASE_IMAGE=finetune.dev/debian-torch:trixie
            ;;
        vllm-cpu)
            "$ROOT/hack/debian.sh" debian-vllm ca-certificates python3 python3-venv libnuma1 libgomp1 g++
            build vllm-cpu "$ROOT/hosting/Dockerfile" "$ROOT" --build-arg BASE_IMAGE=finetune.dev/debian-vllm:trixie
            ;;
        versitygw | registry)
            # A program of the tests; in a directory of its own it is all that a build is sent.
            mkdir -p "$CACHE/$1" && cp "$BIN/$1" "$CACHE/$1/"
            build "$1" "$ROOT/hack/$1.Dockerfile" "$CACHE/$1"
            ;;
        *)
            echo "no image named $1: there are operator, trainer, vllm-cpu, versitygw and registry" >&2
            return 2
            ;;
    esac
    load "$1"
}

if [ $# = 0 ]; then set -- vllm-cpu trainer operator versitygw registry; fi
work=()
# What fails in a trap is the script's own end under errexit.
trap 'kill "${work[@]}" 2>/dev/null || :' EXIT
for name in "$@"; do
    one "$name" &
    work+=($!)
done
for process in "${work[@]}"; do wait "$process"; done
