#!/usr/bin/env bash
# Lints the chart and holds what it renders to Kubernetes' own schemas, with every switch off and with every one on.
#
# So is deploy/, which is that, rendered once. `make lint-chart` calls it, and `make check` with it.
source "$(dirname "$0")/env.sh"

CHART=$ROOT/charts/finetune-operator
SCHEMAS=$CACHE/schemas
# As `make tools` builds it, helm doesn't know a Kubernetes version of its own.
VERSION=1.34.4

schemas() {
    local module
    module=$(go -C "$ROOT/hack/kubernetes" list -m -f '{{.Dir}}' k8s.io/kubernetes)
    python3 "$ROOT/hack/schemas.py" "$module/api/openapi-spec/swagger.json" "$SCHEMAS"
}

digest=$(inputs_of "$ROOT/hack/schemas.py" "$ROOT/hack/kubernetes/go.mod")
if ! fresh "$SCHEMAS.stamp" "$digest"; then
    schemas
    echo "$digest" >"$SCHEMAS.stamp"
fi

render() {
    # The Prometheus operator's kind is not Kubernetes' own.
    helm template finetune-operator "$CHART" --namespace finetune-system --kube-version "$VERSION" "$@" |
        kubeconform -strict -summary -skip ServiceMonitor -kubernetes-version "$VERSION" \
            -schema-location "$SCHEMAS/{{ .ResourceKind }}{{ .KindSuffix }}.json"
}

helm lint --strict --quiet --kube-version "$VERSION" "$CHART"
render
render --values "$ROOT/tests/chart-values.yaml"
"$ROOT/.venv/bin/python" "$ROOT/hack/gen_deploy.py" --check
kubectl kustomize "$ROOT/deploy" |
    kubeconform -strict -summary -skip CustomResourceDefinition -kubernetes-version "$VERSION" \
        -schema-location "$SCHEMAS/{{ .ResourceKind }}{{ .KindSuffix }}.json"
