#!/usr/bin/env bash
# Runs the tests' S3 server in the cluster of KUBECONFIG: Service s3 in namespace s3, port 7070, keys in its Secret s3.
#
# tests/e2e/conftest.py calls it. Idempotent; the keys are made at the first call and never leave the cluster.
source "$(dirname "$0")/env.sh"
export KUBECONFIG=${KUBECONFIG:-$CACHE/kubeconfig}

kubectl apply -f "$ROOT/hack/s3.yaml"
if ! kubectl get secret s3 -n s3 >/dev/null 2>&1; then
    kubectl create secret generic s3 -n s3 \
        --from-literal="AWS_ACCESS_KEY_ID=$(head -c 12 /dev/urandom | base64 | tr -dc a-zA-Z0-9)" \
        --from-literal="AWS_SECRET_ACCESS_KEY=$(head -c 33 /dev/urandom | base64 | tr -dc a-zA-Z0-9)"
fi
kubectl rollout status deployment/s3 -n s3 --timeout=120s
