#!/usr/bin/env bash
# release.sh [TAG]: everything that a release publishes, but for its images, into dist/ (or DIST); pushes nothing.
#
# `make release-dry-run` calls it, .github/workflows/release.yml with the tag, and tests/contract/test_published.py.
# REGISTRY is where the images will be (registry.example.com/finetune): the packaged chart names them there, by the version.
# Without it they keep the names that they have here.
source "$(dirname "$0")/env.sh"
cd "$ROOT"

VERSION=$(python3 hack/version.py)
OUT=${DIST:-$ROOT/dist}

python3 hack/version.py --check "$@"
rm -rf "$OUT"
mkdir -p "$OUT"

# The wheel is made from the source distribution, so that what is in the one is enough for the other.
step "packages" .venv/bin/uv build --out-dir "$OUT" .
rm -f "$OUT/.gitignore"
.venv/bin/python hack/packages.py "$OUT"

chart=$(mktemp -d "$CACHE/chart.XXXXXX")
trap 'rm -rf "$chart"' EXIT
cp -r charts/finetune-operator "$chart/"
if [ -n "${REGISTRY:-}" ]; then sed -i "s|repository: finetune\.dev/|repository: $REGISTRY/|" "$chart/finetune-operator/values.yaml"; fi
helm lint --strict --quiet --kube-version 1.34.4 "$chart/finetune-operator"
helm package "$chart/finetune-operator" --version "$VERSION" --app-version "$VERSION" --destination "$OUT" >/dev/null
helm template finetune-operator "$OUT/finetune-operator-$VERSION.tgz" --namespace finetune-system --kube-version 1.34.4 \
    --set crds.install=true | .venv/bin/python hack/packages.py --images "${REGISTRY:-finetune.dev}" "$VERSION"

# For kubectl alone: the kinds, and the operator with them.
kubectl kustomize crds >"$OUT/crds.yaml"
kubectl kustomize deploy | sed "s|finetune\.dev/\([a-z-]*:$VERSION\)|${REGISTRY:-finetune.dev}/\1|" >"$OUT/finetune-operator.yaml"

for image in operator trainer vllm-cpu; do
    .venv/bin/python hack/sbom.py "$image" "$VERSION" >"$OUT/$image-$VERSION.cdx.json"
done

(cd "$OUT" && sha256sum -- * >SHA256SUMS)
cat "$OUT/SHA256SUMS"
