#!/usr/bin/env bash
# images.sh [NAME...]: builds the project's images and loads them into the kind cluster. `make images` calls it.
#
# The base images are made of Debian's packages when Docker's registry can't be reached: the operator's Python and the
# trainer's torch for CPUs. An image that the node has already is not loaded again.
source "$(dirname "$0")/env.sh"
"$ROOT/hack/docker.sh"
source "$ROOT/hack/env.sh"

TAG=${TAG:-dev}
CA=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}

build() {
    local name=$1 dockerfile=$2
    shift 2
    # The build may stand behind a proxy with an authority of its own: it sees the host's, and the image keeps no trace.
    DOCKER_BUILDKIT=1 step "image $name" docker build -q -t "finetune.dev/$name:$TAG" -f "$dockerfile" \
        --secret "id=ca,src=$CA" "$@" "$ROOT"
}

load() {
    local image=finetune.dev/$1:$TAG id there
    if ! docker inspect "$NODE" >/dev/null 2>&1; then return; fi
    id=$(docker image inspect -f '{{.Id}}' "$image")
    there=$(docker exec "$NODE" cat "/kind/loaded-$1" 2>/dev/null || :)
    if [ "$there" = "$id" ]; then return; fi
    step "load $1" bash -c "docker save '$image' | docker exec -i '$NODE' ctr -n k8s.io images import -"
    docker exec "$NODE" sh -c "echo $id > /kind/loaded-$1"
}

one() {
    case $1 in
        operator)
            "$ROOT/hack/debian.sh" trixie ca-certificates python3 python3-venv
            build operator "$ROOT/operator/Dockerfile" --build-arg BASE_IMAGE=finetune.dev/debian:trixie
            ;;
        trainer)
            "$ROOT/hack/debian.sh" torch ca-certificates python3 python3-venv python3-torch libopenblas0-pthread
            build trainer "$ROOT/trainer/Dockerfile" --build-arg BASE_IMAGE=finetune.dev/debian:torch
            ;;
        vllm-cpu)
            "$ROOT/hack/debian.sh" vllm ca-certificates python3 python3-venv libnuma1 libgomp1 g++
            build vllm-cpu "$ROOT/hosting/Dockerfile" --build-arg BASE_IMAGE=finetune.dev/debian:vllm
            ;;
        versitygw)
            mkdir -p "$CACHE/versitygw" && cp "$BIN/versitygw" "$CACHE/versitygw/"
            step "image versitygw" docker build -q -t "finetune.dev/versitygw:$TAG" -f "$ROOT/hack/versitygw.Dockerfile" \
                "$CACHE/versitygw"
            ;;
        *)
            echo "no image named $1: there are operator, trainer, vllm-cpu and versitygw" >&2
            return 2
            ;;
    esac
    load "$1"
}

if [ $# = 0 ]; then set -- versitygw operator trainer vllm-cpu; fi
for name in "$@"; do one "$name"; done
