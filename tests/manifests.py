"""Bad manifests: one table for the API server (contract tests) and for the local backend (unit tests).

Both must refuse each, name the field and say what is allowed.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any

SMALLEST: dict[str, Any] = {
    "apiVersion": "finetune.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "recipes"},
    "spec": {
        "model": {"source": "hf://org/model"},
        "dataset": {"train": {"source": "s3://bucket/train.jsonl"}},
    },
}


@dataclass(frozen=True)
class Bad:
    """A change to the smallest manifest: `fields` (path → value), the field that errors name, and what they allow.

    `allowed` is in both errors; `server` and `local` where the two say it in words of their own. `cluster_only`: the
    local backend accepts it.
    """

    name: str
    fields: dict[str, Any]
    names: str
    allowed: str = ""
    server: str = ""
    local: str = ""
    cluster_only: bool = False

    def manifest(self) -> dict[str, Any]:
        """The bad manifest."""
        return manifest(self.fields)


def manifest(fields: dict[str, Any]) -> dict[str, Any]:
    """The smallest manifest with fields set, by path."""
    whole = copy.deepcopy(SMALLEST)
    for path, value in fields.items():
        *parents, last = path.split(".")
        here = whole
        for part in parents:
            here = here.setdefault(part, {})
        here[last] = value
    return whole


MODEL, TRAIN = "spec.model.source", "spec.dataset.train.source"
VALIDATION = "spec.dataset.validation"
ADAPTER = "spec.training.adapter"
LIMITS = "spec.training.resources.limits"
EVALUATION = "spec.evaluation"
TEST = {"spec.dataset.test": {"fraction": 0.1}}
POSITIVE = {"server": "should be greater than 0", "local": "must be greater than 0"}
MODEL_URIS = "must be hf://ORG/NAME, s3://BUCKET/PREFIX or pvc://CLAIM/PATH"
DATA_URIS = "must be hf://datasets/ORG/NAME/FILE, s3://BUCKET/KEY, pvc://CLAIM/PATH or configmap://NAME/KEY"
DURATION = "must be a duration longer than zero, such as 90m, 6h or 1h30m"
FRACTION = "must lie between 0 and 1, both excluded"
QUANTITY = 'must be a quantity such as 2, "0.5", 500m or 16Gi'
LONGEST = 45


def _at_least(path: str, least: int, *values: int) -> list[Bad]:
    said = {"server": f"greater than or equal to {least}", "local": f"must be greater than or equal to {least}"}
    return [Bad(f"{path} {value}", {path: value}, path, **said) for value in values]


def _each(path: str, allowed: str, *values: Any) -> list[Bad]:
    return [Bad(f"{path} {value!r}", {path: value}, path, allowed) for value in values]


BAD = [
    *_each(MODEL, MODEL_URIS, "gs://bucket/model", "https://host/model", "org/model", "hf://model", "hf://a/b/c", ""),
    *_each(MODEL, MODEL_URIS, "pvc://models", "configmap://models/model"),
    *_each(TRAIN, DATA_URIS, "gs://bucket/train.jsonl", "hf://org/data/train.jsonl", "train.jsonl", "s3://bucket"),
    *_each(TRAIN, DATA_URIS, "configmap://rows", "configmap://rows/a/b", "pvc://Claim/rows"),
    *(
        replace(bad, cluster_only=True)
        for path, uris in ((MODEL, MODEL_URIS), (TRAIN, DATA_URIS))
        for bad in _each(path, f"file:// exists only for `finetune run`; in a cluster it {uris}", "file://here")
    ),
    Bad(
        "a revision of a bucket",
        {MODEL: "s3://bucket/model", "spec.model.revision": "main"},
        "spec.model.revision",
        "goes with an hf:// source only: remove it, or choose such a source",
    ),
    Bad(
        "a split from two places",
        {f"{VALIDATION}.source": "s3://bucket/validation.jsonl", f"{VALIDATION}.fraction": 0.1},
        VALIDATION,
        "needs either source or fraction, and not both",
    ),
    Bad("a split from nowhere", {"spec.dataset.test": {}}, "spec.dataset.test", "needs either source or fraction"),
    *_each(f"{VALIDATION}.fraction", FRACTION, 0, 1, 1.5, -0.1),
    Bad(
        "splits that leave nothing",
        {f"{VALIDATION}.fraction": 0.5, "spec.dataset.test.fraction": 0.5},
        "spec.dataset.test",
        "the fractions of validation and test leave no row to train on: together they must stay below 1",
    ),
    Bad(
        "epochs and maxSteps",
        {"spec.training.epochs": 3, "spec.training.maxSteps": 10},
        "spec.training.maxSteps",
        "training takes either epochs or maxSteps",
    ),
    Bad("rank 12", {f"{ADAPTER}.rank": 12}, f"{ADAPTER}.rank", server='values: "8", "16", "32"', local="8, 16, 32"),
    *_at_least(f"{ADAPTER}.alpha", 1, 0, -1),
    *_at_least(f"{ADAPTER}.dropout", 0, -1),
    Bad("dropout 1", {f"{ADAPTER}.dropout": 1}, f"{ADAPTER}.dropout", "less than 1"),
    Bad("no module", {f"{ADAPTER}.targetModules": []}, f"{ADAPTER}.targetModules", "at least 1 item"),
    Bad(
        "alpha without an adapter",
        {f"{ADAPTER}.type": "none", f"{ADAPTER}.alpha": 32},
        f"{ADAPTER}.alpha",
        "has no meaning with adapter.type none: remove it, or choose lora or dora",
    ),
    Bad("an adapter of the future", {f"{ADAPTER}.type": "qlora"}, f"{ADAPTER}.type", server='"lora"', local="'lora'"),
    *(Bad(f"epochs {value}", {"spec.training.epochs": value}, "spec.training.epochs", **POSITIVE) for value in (0, -1)),
    *(
        Bad(f"learningRate {value}", {"spec.training.learningRate": value}, "spec.training.learningRate", **POSITIVE)
        for value in (0, -0.0001)
    ),
    Bad("learningRate 2", {"spec.training.learningRate": 2}, "spec.training.learningRate", "less than or equal to 1"),
    *_at_least("spec.training.maxSteps", 1, 0, -1),
    *_at_least("spec.training.batchSize", 1, 0, -1),
    *_at_least("spec.training.maxLength", 8, 0, -1),
    *_at_least("spec.training.seed", 0, -1),
    *_at_least("spec.training.retries", 0, -1),
    *_at_least("spec.hosting.replicas", 1, 0, -1),
    *_at_least("spec.hosting.contextLength", 16, 0, -1),
    *_at_least("spec.hosting.revisionHistoryLimit", 0, -1),
    Bad("a number as text", {"spec.training.seed": "3"}, "spec.training.seed", "integer"),
    *_each("spec.training.maxRuntime", DURATION, "soon", "0s", "-1h", "", "1d", "1h 30m", "90"),
    Bad(
        "replicas on a ReadWriteOnce volume",
        {"spec.hosting.replicas": 2},
        "spec.hosting.replicas",
        "above 1 needs workspace.accessModes [ReadWriteMany]: a ReadWriteOnce volume holds all replicas on one node",
    ),
    Bad(
        "a gate on nothing",
        {f"{EVALUATION}.enabled": False, f"{EVALUATION}.gate": {"minimum": 0.5}},
        f"{EVALUATION}.gate",
        "needs a measurement: remove it, or set evaluation.enabled to true",
    ),
    *(
        Bad(f"{what}", {**TEST, f"{EVALUATION}.{field}": value}, f"{EVALUATION}.{named}", allowed)
        for what, field, value, named, allowed in (
            ("a metric twice", "metrics", ["rouge_l", "rouge_l"], "metrics", "names a metric twice"),
            (
                "a baseline twice",
                "baselines",
                [{"type": "few-shot"}, {"type": "few-shot", "examples": 8}],
                "baselines",
                "has a type twice: there is one baseline of each",
            ),
            (
                "topK of few-shot",
                "baselines",
                [{"type": "few-shot", "topK": 4}],
                "baselines[0].topK",
                "goes with type retrieval only; few-shot has examples",
            ),
            (
                "examples of retrieval",
                "baselines",
                [{"type": "retrieval", "examples": 4}],
                "baselines[0].examples",
                "goes with type few-shot only; retrieval has topK",
            ),
            (
                "a judge that nobody asks",
                "judge",
                {"url": "https://judge/v1", "model": "large"},
                "judge",
                "and the metric judge belong together: give both, or neither",
            ),
            (
                "the metric judge without one",
                "metrics",
                ["judge"],
                "judge",
                "and the metric judge belong together: give both, or neither",
            ),
            (
                "a gate on what is not measured",
                "gate",
                {"metric": "rouge_l"},
                "gate.metric",
                "must be one of evaluation.metrics: add it there",
            ),
            ("a confidence of one", "gate", {"confidence": 1}, "gate.confidence", "must be 0.8, 0.9, 0.95 or 0.99"),
            ("a minimum of 80", "gate", {"minimum": 80}, "gate.minimum", "less than or equal to 1"),
            ("a margin of 1", "gate", {"margin": 1}, "gate.margin", "less than 1"),
        )
    ),
    Bad(
        "a judge without a scheme",
        {**TEST, f"{EVALUATION}.metrics": ["judge"], f"{EVALUATION}.judge": {"url": "judge:8000", "model": "large"}},
        f"{EVALUATION}.judge.url",
        "must be the URL of an OpenAI-compatible endpoint, such as https://HOST/v1",
    ),
    Bad(
        "an unknown metric",
        {**TEST, f"{EVALUATION}.metrics": ["bleu"]},
        f"{EVALUATION}.metrics[0]",
        server='"exact_match"',
        local="'exact_match'",
    ),
    *(
        Bad(f"quantity {value!r}", {LIMITS: {"memory": value}}, f"{LIMITS}.memory", QUANTITY)
        for value in ("lots", "16 Gi", "16GB", "-1Gi", -1, "")
    ),
    Bad("half a core", {LIMITS: {"cpu": 0.5}}, f"{LIMITS}.cpu", server="integer,string", local=QUANTITY),
    *_each("spec.workspace.size", "must be a size above zero, such as 20Gi", 0, "0Gi", "0.0"),
    *_each("spec.workspace.size", QUANTITY, "big"),
    *_each("metadata.name", f"must be at most {LONGEST} characters long", "a" * (LONGEST + 1)),
    *_each("metadata.name", "must be lower-case letters, digits and '-', starting with a letter", "recipes.v2", "2nd"),
    Bad(
        "an environment variable without a value",
        {"spec.training.pod.env": [{"name": "A"}]},
        "spec.training.pod.env[0]",
        "needs either value or valueFrom, and not both",
    ),
    Bad("no model", {"spec": {"dataset": {"train": {"source": "s3://b/t"}}}}, "spec.model", server="Required"),
    Bad("no spec", {"spec": None}, "spec", server="Required", local="must be an object"),
    Bad(
        "an unknown field",
        {"spec.training.epoch": 3},
        "spec.training.epoch",
        server='unknown field "spec.training.epoch"',
        local="is not a field; did you mean epochs?",
    ),
    Bad(
        "an unknown section",
        {"spec.output": {"merge": True}},
        "spec.output",
        server='unknown field "spec.output"',
        local="is not a field; the fields here are model, dataset, training, evaluation, hosting, workspace, suspend",
    ),
]

GOOD: dict[str, dict[str, Any]] = {
    "the smallest": {},
    "a revision": {"spec.model.revision": "v1.0"},
    "a bucket's root": {MODEL: "s3://models"},
    "rows of the hub": {TRAIN: "hf://datasets/org/data@main/train/0.parquet"},
    "rows of a config map": {TRAIN: "configmap://rows/train.jsonl"},
    "a claim": {MODEL: "pvc://models/SmolLM2", TRAIN: "pvc://data/train.csv"},
    "all rows of its own": {VALIDATION: {"source": "s3://b/v.csv"}, "spec.dataset.test": {"source": "s3://b/t.csv"}},
    "full fine-tuning": {f"{ADAPTER}.type": "none"},
    "half an epoch": {"spec.training.epochs": 0.5},
    "a long day": {"spec.training.maxRuntime": "1h30m10s"},
    "quantities": {LIMITS: {"nvidia.com/gpu": 1, "cpu": "1500m", "memory": "1.5Gi"}, "spec.workspace.size": "1e10"},
    "replicas that share": {"spec.hosting.replicas": 3, "spec.workspace.accessModes": ["ReadWriteMany"]},
    "everything of evaluation": {
        **TEST,
        EVALUATION: {
            "metrics": ["token_f1", "judge"],
            "baselines": [{"type": "zero-shot"}, {"type": "few-shot", "examples": 2}, {"type": "retrieval", "topK": 2}],
            "sampleSize": 50,
            "judge": {"url": "https://judge/v1", "model": "large", "credentials": {"secretRef": {"name": "judge"}}},
            "gate": {"metric": "judge", "minimum": 0.5, "margin": 0.02, "confidence": 0.9},
        },
    },
    "nothing to compare with": {**TEST, EVALUATION: {"baselines": [], "gate": {"minimum": 0.5}}},
    "the longest name": {"metadata.name": "a" * LONGEST},
}
