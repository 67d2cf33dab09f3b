"""Statuses of a FineTuneJob as an operator writes them, for the tests of whoever shows them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from finetune_cli.jobs import Job
from finetune_operator.api.status import FineTuneJobStatus

Raw = dict[str, Any]

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ORDER = ("Accepted", "DataReady", "Trained", "Published", "Merged", "Hosted", "Evaluated", "Promoted", "Ready")
DONE: dict[str, tuple[str, str, str]] = {
    "Accepted": ("True", "Accepted", "The manifest is accepted."),
    "DataReady": ("True", "Succeeded", "900 rows to train on."),
    "Trained": ("True", "Succeeded", "Trained in 120 steps."),
    "Published": ("False", "Disabled", "output.destination is not set."),
    "Merged": ("False", "Disabled", "hosting.adapter is not merged, or train merges it."),
    "Hosted": ("True", "Succeeded", "The engine answers."),
    "Evaluated": ("True", "Succeeded", "token_f1 0.925 against 0.380."),
    "Promoted": ("True", "Succeeded", "Service recipes points at bbbb0002."),
    "Ready": ("True", "Serving", "http://recipes.kitchen.svc/v1 answers as model recipes with revision bbbb0002."),
}
WAITS = ("Unknown", "Waiting", "An earlier stage comes first.")
MODEL = {"commit": "12fd25f77366", "parameters": 134515008, "contextLength": 8192}
DATASET = {
    "format": "chat",
    "rows": {"train": 900, "validation": 100, "test": 200},
    "tokens": 182344,
    "longest": 431,
    "longerThanMaxLength": 0,
    "digest": "sha256:1",
}
PLAN = {
    "batchSize": 16,
    "tokensPerPass": 8192,
    "maxLength": 512,
    "learningRate": "2e-4",
    "totalSteps": 120,
    "contextLength": 2048,
    "estimatedMemory": "3.1Gi",
    "estimatedTrainedTokens": 547032,
    "reasons": {"learningRate": "usual for lora"},
}
ARTIFACT = {"uri": "s3://models/recipes/bbbb0002", "digest": "sha256:2", "bytes": 19537922}
REQUESTS = {
    "promptTokens": "45.0",
    "completionTokens": "20.0",
    "latencyP50": "0.1",
    "latencyP95": "0.2",
    "requestsPerSecond": "9.0",
}
EVALUATION = {
    "id": "00000001",
    "passed": True,
    "metric": "token_f1",
    "tuned": "0.925",
    "baselines": {"zero-shot": "0.000", "few-shot": "0.380"},
    "bestBaseline": "few-shot",
    "metricSummary": "token_f1 0.925",
    "bestBaselineSummary": "few-shot 0.380",
    "promptTokensPerRequest": {"tuned": "45.0", "zero-shot": "45.0", "few-shot": "410.0"},
    "metrics": ["token_f1"],
    "reason": "The answers are JSON.",
    "rows": 200,
    "contenders": {},
    "report": "pvc://recipes-bbbb0002/evaluations/00000001/report.html",
}
HISTORY = [
    {"revision": "bbbb0002", "outcome": "Serving", "artifact": ARTIFACT, "metric": "token_f1 0.925"},
    {"revision": "cccc0003", "outcome": "Rejected", "artifact": ARTIFACT, "metric": "token_f1 0.200"},
    {"revision": "dddd0004", "outcome": "Failed"},
    {"revision": "aaaa0001", "outcome": "Superseded", "artifact": ARTIFACT, "metric": "token_f1 0.800"},
]


def status(phase: str = "Serving", changed: dict[str, tuple[str, str, str]] | None = None, **fields: Any) -> Raw:
    """The document; `changed`: conditions other than those of a job that serves."""
    since = (NOW - timedelta(minutes=14)).isoformat()
    found = {**DONE, **(changed or {})}
    conditions = [
        {
            **dict(zip(("status", "reason", "message"), found[kind], strict=True)),
            "type": kind,
            "observedGeneration": 1,
            "lastTransitionTime": since,
        }
        for kind in ORDER
    ]
    return {"observedGeneration": 1, "phase": phase, "conditions": conditions, "revision": "bbbb0002"} | fields


def serving(**fields: Any) -> Raw:
    """All is done."""
    return status(
        servedRevision="bbbb0002",
        model=MODEL,
        dataset=DATASET,
        plan=PLAN,
        artifact=ARTIFACT,
        usage={"trainedTokens": 547032, "seconds": 312, "acceleratorSeconds": 312},
        evaluation=EVALUATION,
        endpoint={"url": "http://recipes.kitchen.svc/v1", "model": "recipes"},
        history=HISTORY,
        **fields,
    )


def training(**fields: Any) -> Raw:
    """Half of the steps are done, while an earlier revision serves."""
    trains = ("Unknown", "Running", "The train Job is running.")
    ready = (
        "Unknown",
        "Running",
        "Trained: The train Job is running. Revision aaaa0001 goes on serving at http://r/v1.",
    )
    later = dict.fromkeys(("Hosted", "Evaluated", "Promoted"), WAITS)
    return status(
        "Training",
        {"Trained": trains, **later, "Ready": ready},
        servedRevision="aaaa0001",
        progress={
            "stage": "train",
            "step": 40,
            "totalSteps": 120,
            "loss": "0.4200",
            "tokensPerSecond": "1480",
            "eta": (NOW + timedelta(seconds=130)).isoformat(),
        },
        progressSummary="40/120",
        **fields,
    )


def ended(phase: str, stage: str, reason: str, message: str, said: str = "False", **fields: Any) -> Raw:
    """It has come to an end, or stands still, at the condition of a stage."""
    behind = ORDER[ORDER.index(stage) + 1 : -1]
    later = {} if stage == "Accepted" else dict.fromkeys(behind, WAITS)
    ready = (said, reason, f"{stage}: {message}")
    return status(phase, {stage: (said, reason, message), **later, "Ready": ready}, **fields)


def raw(document: Raw, generation: int = 1, name: str = "recipes", **annotations: str) -> Raw:
    """The object in a cluster."""
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {
            "name": name,
            "namespace": "kitchen",
            "generation": generation,
            "creationTimestamp": (NOW - timedelta(hours=3)).isoformat(),
            "annotations": annotations,
        },
        "spec": {},
        "status": document,
    }


def job(document: Raw, idle: bool = False, promote: str = "", generation: int = 1) -> Job:
    """The same, read."""
    created = NOW - timedelta(hours=3)
    told = FineTuneJobStatus.model_validate(document)
    resumes = "`finetune run` of its manifest" if idle else "`finetune resume recipes`"
    return Job("recipes", told, {}, "kitchen", generation, created, promote, idle, resumes)
