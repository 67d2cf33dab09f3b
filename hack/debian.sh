#!/usr/bin/env bash
# debian.sh TAG PACKAGE...: makes finetune.dev/debian:TAG, a minimal Debian trixie with packages, without a registry.
#
# node_image.sh and images.sh build on these. Made again only when the list of packages changes.
source "$(dirname "$0")/env.sh"

image=finetune.dev/debian:$1
shift
digest=$(inputs_of trixie minbase "$@")
if [ "$(docker image inspect -f '{{index .Config.Labels "inputs"}}' "$image" 2>/dev/null)" = "$digest" ]; then exit 0; fi

root=$(mktemp -d "$CACHE/root.XXXXXX")
trap 'rm -rf "$root"' EXIT
mkdir -p "$CACHE/debs"
packages=$(IFS=,; echo "$*")
step "debootstrap $image" debootstrap --variant=minbase --cache-dir="$CACHE/debs" --include="$packages" trixie "$root"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/*
step "import $image" bash -c "tar -C '$root' -c . | docker import --change 'LABEL inputs=$digest' --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - '$image'"
