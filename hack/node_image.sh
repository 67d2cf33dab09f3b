#!/usr/bin/env bash
# Builds finetune.dev/node, a kind node made of Debian packages and Go modules, for machines that reach no registry.
#
# cluster.sh calls it when the official image can't be pulled. It does what kind's own image builds do: a Debian base with
# kind's files (from kind's module), then Kubernetes' binaries, the control plane's images preloaded into containerd, and
# the manifests of storage and network. Made again only when its inputs change.
source "$(dirname "$0")/env.sh"

VERSION=v1.34.4
IMAGE=finetune.dev/node:$VERSION
"$ROOT/hack/tools.sh" node
KIND=$(go mod download -json sigs.k8s.io/kind@v0.32.0 | python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')

stamps=()
for part in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubeadm kubelet kubectl etcd coredns \
    local-path-provisioner kube-network-policies pause kind; do stamps+=("$CACHE/stamps/$part"); done
digest=$(inputs_of "$ROOT"/hack/node/* "$ROOT/hack/node_image.sh" "${stamps[@]}")
if [ "$(docker image inspect -f '{{index .Config.Labels "inputs"}}' "$IMAGE" 2>/dev/null)" = "$digest" ]; then exit 0; fi

"$ROOT/hack/debian.sh" debian-node systemd systemd-sysv dbus conntrack iptables nftables iproute2 ethtool util-linux mount kmod \
    libseccomp2 e2fsprogs ca-certificates curl jq procps containerd runc containernetworking-plugins

context=$(mktemp -d "$CACHE/node.XXXXXX")
builder=$CLUSTER-node-builder
trap 'docker rm -f "$builder" >/dev/null 2>&1; rm -rf "$context"' EXIT
mkdir -p "$context/base/files"
cp "$ROOT"/hack/node/* "$context/base/"
cp -r --no-preserve=mode "$KIND"/images/base/files/. "$context/base/files/"
step "node base" docker build -t finetune.dev/node-base "$context/base"

# image TAG BASE ENTRYPOINT BINARY...: an image that holds binaries in /usr/local/bin.
image() {
    local tag=$1 base=$2 entrypoint=$3 directory
    shift 3
    directory=$(mktemp -d "$context/image.XXXXXX")
    for binary in "$@"; do cp "$BIN/$binary" "$directory/"; done
    printf 'FROM %s\nENV PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin\nCOPY . /usr/local/bin/\n%s\n' \
        "$base" "${entrypoint:+ENTRYPOINT [\"$entrypoint\"]}" | docker build -q -t "$tag" -f - "$directory"
    echo "$tag" >>"$context/images"
}

control_plane() {
    local storage helper name
    while read -r name; do
        case $name in
            */kube-proxy:*) image "$name" finetune.dev/debian-node:trixie "" kube-proxy ;;
            */kube-*) image "$name" scratch "" "$(basename "${name%%:*}")" ;;
            */coredns:*) image "$name" scratch coredns coredns ;;
            */etcd:*) image "$name" scratch "" etcd ;;
            */pause:*) image "$name" scratch pause pause ;;
        esac
    done < <("$BIN/kubeadm" config images list --kubernetes-version "$VERSION")
    image "$(sed -n 's/^ *sandbox_image = "\(.*\)"/\1/p' "$KIND/images/base/files/etc/containerd/config.toml")" scratch pause pause
    storage=$(sed -n 's/^const storageProvisionerImage = "\(.*\)"/\1/p' "$KIND/pkg/build/nodeimage/const_storage.go")
    helper=$(sed -n 's/^const storageHelperImage = "\(.*\)"/\1/p' "$KIND/pkg/build/nodeimage/const_storage.go")
    image "$storage" finetune.dev/debian-node:trixie "" local-path-provisioner
    image "$(sed -n 's/^ *image: //p' "$ROOT/hack/node/default-cni.yaml")" finetune.dev/debian-node:trixie "" kube-network-policies
    docker tag "$storage" "$helper"
    echo "$helper" >>"$context/images"
    python3 "$ROOT/hack/node/storage.py" "$KIND/pkg/build/nodeimage/const_storage.go" >"$context/default-storage.yaml"
}

assemble() {
    local images
    docker rm -f "$builder" 2>/dev/null || :
    docker run -d --privileged --name "$builder" --entrypoint /bin/sleep finetune.dev/node-base infinity
    docker exec -d "$builder" containerd
    for _ in $(seq 30); do
        if docker exec "$builder" ctr version >/dev/null 2>&1; then break; fi
        pause
    done
    mapfile -t images <"$context/images"
    docker save "${images[@]}" | docker exec -i "$builder" ctr -n k8s.io images import --no-unpack -
    docker exec "$builder" mkdir -p /kind/manifests
    docker exec -i "$builder" sh -c "echo $VERSION > /kind/version"
    docker cp "$context/default-storage.yaml" "$builder:/kind/manifests/default-storage.yaml"
    docker cp "$ROOT/hack/node/default-cni.yaml" "$builder:/kind/manifests/default-cni.yaml"
    for name in kubeadm kubelet kubectl; do docker cp "$BIN/$name" "$builder:/usr/bin/$name"; done
    docker exec "$builder" sh -c 'kill "$(pidof containerd)"; while pidof containerd >/dev/null; do :; done'
    docker commit --change "LABEL inputs=$digest" \
        --change 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' "$builder" "$IMAGE"
}

step "control plane images" control_plane
step "assemble $IMAGE" assemble
