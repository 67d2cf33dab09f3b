"""finetune-api in the tests' cluster: what the chart is told for it, and a key that opens one namespace."""

import hashlib
import json
from typing import Any

from kube import SYSTEM
from recipes import TINY, secret

NAMESPACE, KEY, KEYS = "tutorials", "sk-of-the-tutorials", "finetune-api-keys"
# A name of OpenAI's that stands for an open model, so that code runs unchanged.
MODEL = "gpt-4o-mini-2024-07-18"
_TABLE = {
    MODEL: {
        "model": {"source": f"s3://models/{TINY}", "credentials": {"secretRef": {"name": "bucket"}}},
        "training": {"batchSize": 2, "learningRate": 1e-3, "maxLength": 128},
        "evaluation": {"metrics": ["token_f1"], "baselines": [{"type": "zero-shot"}], "sampleSize": 2},
        "hosting": {"contextLength": 512},
        "workspace": {"size": "2Gi"},
    }
}


def settings() -> list[str]:
    """Helm's flags that switch it on."""
    files = {"bucket": "s3://recipes/openai", "secret": "bucket", "rowsSecret": "bucket"}
    told = [f"--set=api.files.{key}={value}" for key, value in files.items()]
    return ["--set=api.enabled=true,api.files.ports={443,7070}", *told, f"--set-json=api.models={json.dumps(_TABLE)}"]


def objects() -> list[dict[str, Any]]:
    """What has to be there before: the keys, and the Secret for the bucket."""
    entry = {"sha256": hashlib.sha256(KEY.encode()).hexdigest(), "namespace": NAMESPACE}
    keys = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": KEYS, "namespace": SYSTEM}}
    return [secret(SYSTEM, "bucket"), keys | {"stringData": {"alice": json.dumps(entry)}}]
