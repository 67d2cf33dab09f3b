#!/usr/bin/env bash
# Runs the tests' S3 server in the cluster of KUBECONFIG: Service s3 in namespace s3, port 7070, keys in its Secret s3.
#
# tests/e2e/conftest.py calls it. Pods reach it at http://s3.s3.svc:7070; from outside the cluster:
#   kubectl port-forward -n s3 service/s3 7070
# Idempotent; the keys are made at the first call and never leave the cluster.
source "$(dirname "$0")/env.sh"
export KUBECONFIG=${KUBECONFIG:-$CACHE/kubeconfig}

key() { head -c "$1" /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

kubectl apply -f "$ROOT/hack/s3.yaml"
if ! kubectl get secret s3 -n s3 >/dev/null 2>&1; then
    # By a file descriptor: an argument could be read by every process of the machine.
    kubectl create secret generic s3 -n s3 \
        --from-env-file=<(printf 'AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\n' "$(key 10)" "$(key 20)")
fi
kubectl rollout status deployment/s3 -n s3 --timeout=600s
