#!/usr/bin/env bash
# debian.sh NAME PACKAGE...: makes finetune.dev/NAME:trixie, a minimal Debian with packages, with or without a registry.
#
# node_image.sh and images.sh build on these. Made again only when the list of packages changes.
source "$(dirname "$0")/env.sh"

OFFICIAL=debian:trixie-slim
# Two that download at once would write the same files.
exec 9>"$CACHE/debian.lock"
flock 9
image=finetune.dev/$1:trixie
shift
digest=$(inputs_of trixie minbase "$@")
if [ "$(docker image inspect -f '{{index .Config.Labels "inputs"}}' "$image" 2>/dev/null)" = "$digest" ]; then exit 0; fi

if docker image inspect "$OFFICIAL" >/dev/null 2>&1 || timeout 300 docker pull -q "$OFFICIAL" >/dev/null 2>&1; then
    dockerfile="FROM $OFFICIAL
RUN apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $* && rm -rf /var/lib/apt/lists/*"
    step "packages of $image" bash -c 'docker build -t "$0" --label "inputs=$1" - <<<"$2"' "$image" "$digest" "$dockerfile"
    exit 0
fi

if ! command -v debootstrap >/dev/null; then debian_packages debootstrap; fi
root=$(mktemp -d "$CACHE/root.XXXXXX")
trap 'rm -rf "$root"' EXIT
mkdir -p "$CACHE/debs"
packages=$(IFS=,; echo "$*")
step "debootstrap $image" debootstrap --variant=minbase --cache-dir="$CACHE/debs" --include="$packages" trixie "$root"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/*
step "import $image" bash -c "tar -C '$root' -c . | docker import --change 'LABEL inputs=$digest' --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - '$image'"
