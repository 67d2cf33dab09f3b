#!/usr/bin/env bash
# Builds the tests' programs from Go modules by name, into $CACHE/bin. `make tools` calls it; so does cluster.sh.
#
#   tools.sh            what tests need: an API server with etcd and controllers, kubectl, kind, helm, versitygw,
#                       fake-gcs-server, registry (OCI's), kubeconform, kwok (nodes and pods that are simulated), kueue,
#                       gitops (what Flux does with manifests)
#   tools.sh node       and what a kind node consists of, where no official image can be pulled (node_image.sh)
#
# Each is built again only when its version, module file or flags change.
source "$(dirname "$0")/env.sh"

VERSION=v1.34.4
STAMPS=$CACHE/stamps
mkdir -p "$STAMPS"
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false

ldflags() {
    local package flags="-s -w"
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags+=" -X $package.gitVersion=$VERSION -X $package.gitMajor=1 -X $package.gitMinor=34 -X $package.gitTreeState=clean"
    done
    echo "$flags"
}

# built NAME DIGEST COMMAND...: run the build unless NAME is there, made from the same inputs.
built() {
    local name=$1 digest=$2
    shift 2
    if [ -x "$BIN/$name" ] && fresh "$STAMPS/$name" "$digest"; then return; fi
    step "build $name" "$@"
    echo "$digest" >"$STAMPS/$name"
}

kubernetes() {
    local digest
    digest=$(inputs_of "$ROOT/hack/kubernetes/go.mod" "$ROOT/hack/kubernetes/go.sum" "$(ldflags)")
    for name in "$@"; do
        built "$name" "$digest" go -C "$ROOT/hack/kubernetes" build -trimpath -ldflags "$(ldflags)" \
            -o "$BIN/$name" "k8s.io/kubernetes/cmd/$name"
    done
}

own() {
    local name=$1
    built "$name" "$(inputs_of "$ROOT/hack/$name"/*)" \
        go -C "$ROOT/hack/$name" build -trimpath -ldflags "-s -w" -o "$BIN/$name" .
}

installed() {
    local name=$1 module=$2
    built "$name" "$(inputs_of "$module")" install_as "$name" "$module"
}

# install_as NAME MODULE: `go install` names a program after its directory, and that may be "cmd".
install_as() {
    local directory
    directory=$(mktemp -d "$CACHE/go.XXXXXX")
    GOBIN=$directory go install -trimpath -ldflags "-s -w" "$2"
    mv "$directory"/* "$BIN/$1"
    rmdir "$directory"
}

# kueue VERSION: the program, and the objects that kustomize makes of its module.
kueue() {
    built kueue "$(inputs_of "$1")" build_kueue "$1"
}

build_kueue() {
    local module
    install_as kueue "sigs.k8s.io/kueue/cmd/kueue@$1"
    module=$(go mod download -json "sigs.k8s.io/kueue@$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    "$BIN/kubectl" kustomize "$module/config/default" >"$BIN/kueue.yaml"
}

kubernetes kube-apiserver kube-controller-manager kubectl
own etcd
own gitops
installed kind sigs.k8s.io/kind@v0.32.0
installed helm helm.sh/helm/v3/cmd/helm@v3.22.0
installed versitygw github.com/versity/versitygw/cmd/versitygw@v1.8.0
installed fake-gcs-server github.com/fsouza/fake-gcs-server@v1.56.1
installed registry github.com/distribution/distribution/v3/cmd/registry@v3.1.2
installed kubeconform github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
installed kwok sigs.k8s.io/kwok/cmd/kwok@v0.8.0
kueue v0.17.0

if [ "${1:-}" = node ]; then
    kubernetes kubeadm kubelet kube-scheduler kube-proxy
    own pause
    installed coredns github.com/coredns/coredns@v1.12.4
    installed local-path-provisioner github.com/rancher/local-path-provisioner@v0.0.30
    installed kube-network-policies sigs.k8s.io/kube-network-policies/cmd@v0.8.0
fi
