"""Engines that are refused, and why: a table that the API server (contract tests) and the models (unit tests) obey."""

from typing import Any

from manifests import Bad

SMALLEST: dict[str, Any] = {
    "apiVersion": "finetune.dev/v1alpha1",
    "kind": "Engine",
    "metadata": {"name": "chat"},
    "spec": {"model": {"source": "hf://org/model"}},
}
_SOURCE = "must be hf://ORG/NAME, s3://BUCKET/PREFIX"
_ARGUMENTS = "must be one of vLLM's arguments --async-scheduling"
_MOUNTED = {"spec.model.source": "pvc://models/chat"}


def _bad(name: str, fields: dict[str, Any], names: str, allowed: str = "", **said: str) -> Bad:
    return Bad(name, fields, names, allowed, of=SMALLEST, **said)


BAD = [
    _bad("a name with a capital", {"metadata.name": "Chat"}, "metadata.name", local="must be lower-case letters"),
    _bad(
        "a name that is no Service's", {"metadata.name": "4chat"}, "metadata.name", "starting with a letter and ending"
    ),
    _bad(
        "a name too long for a Service", {"metadata.name": "a" * 64}, "metadata.name", "must be at most 63 characters"
    ),
    _bad("no source", {"spec.model": {}}, "spec.model.source"),
    _bad("a source of no scheme", {"spec.model.source": "org/model"}, "spec.model.source", _SOURCE),
    _bad("a FineTuneJob's", {"spec.model.source": "ftj://recipes"}, "spec.model.source", "can't be a FineTuneJob's"),
    _bad("a revision of S3", {"spec.model": {"source": "s3://a", "revision": "main"}}, "spec.model.revision", "hf://"),
    _bad("too many", {"spec.replicas": 101}, "spec.replicas", "than or equal to 100"),
    _bad(
        "fewer than none",
        {"spec.replicas": -1},
        "spec.replicas",
        server="greater than or equal to 0",
        local="equal to 0",
    ),
    _bad("an argument that opens a door", {"spec.arguments": ["--enable-lora"]}, "spec.arguments[0]", _ARGUMENTS),
    _bad("a key for all to read", {"spec.arguments": ["--api-key=abc"]}, "spec.arguments[0]", _ARGUMENTS),
    _bad("a value beside its name", {"spec.arguments": ["--dtype", "half"]}, "spec.arguments[0]", _ARGUMENTS),
    _bad("a flag with a value", {"spec.arguments": ["--enforce-eager=1"]}, "spec.arguments[0]", _ARGUMENTS),
    _bad("a second line", {"spec.arguments": ["--seed=1\n--port=1"]}, "spec.arguments[0]", _ARGUMENTS),
    _bad("no time", {"spec.idleAfter": "0m"}, "spec.idleAfter", "must be a duration longer than zero"),
    _bad("hardly any time", {"spec.idleAfter": "59s"}, "spec.idleAfter", "must be at least 60s, such as 30m"),
    _bad("another quantization", {"spec.quantization": "fp3"}, "spec.quantization", server="fp8", local="'fp8'"),
    _bad(
        "a volume for what is mounted", _MOUNTED | {"spec.storage": {"size": "20Gi"}}, "spec.storage", "to be fetched"
    ),
    _bad(
        "a rank that vLLM has no room for", {"spec.lora": {"maxRank": 17}}, "spec.lora.maxRank", server="16", local="16"
    ),
    _bad(
        "a private key to verify with",
        {"spec.lora": {"verifyKey": "-----BEGIN PRIVATE KEY-----\nMIG=\n-----END PRIVATE KEY-----\n"}},
        "spec.lora.verifyKey",
        "must be a public key in PEM, from -----BEGIN PUBLIC KEY----- to -----END PUBLIC KEY-----",
    ),
    _bad("no adapter at once", {"spec.lora": {"atOnce": 0}}, "spec.lora.atOnce", "than or equal to 1"),
    _bad(
        "fewer in memory than are computed",
        {"spec.lora": {"inMemory": 3}},
        "spec.lora.inMemory",
        "can't be less than lora.atOnce",
    ),
    _bad("a volume of no size", {"spec.storage": {}}, "spec.storage.size"),
    _bad(
        "credentials for a claim",
        {"spec.model": {"source": "pvc://models/chat", "credentials": {"secretRef": {"name": "a"}}}},
        "spec.model.credentials",
        "goes with hf://, s3://, gs://, abfs:// or oci:// sources only",
    ),
]
