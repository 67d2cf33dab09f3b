"""What an artifact is made of, as a bill of materials: a CycloneDX ML-BOM of model, base model, rows and libraries.

Called by `artifact`, as provenance is. Plain JSON: CycloneDX's own library has no model cards yet, but the schema,
which a test holds this to.
"""

import json
from pathlib import Path
from typing import Any

from finetune_trainer.contract.config import BOM, RunConfig, Source
from finetune_trainer.contract.results import PrepareResult
from finetune_trainer.training.card import HUB
from finetune_trainer.training.provenance import OURS, versions

FORMAT, SPECIFICATION = "CycloneDX", "1.6"
MODEL, BASE, REPORTED = "model", "base-model", ("loss", "validationLoss")


def write(
    artifact: Path, digest: str, config: RunConfig, prepared: PrepareResult, last: dict[str, float | None]
) -> None:
    """Leave it beside the files. `last`: the losses that training came to, by their names in metrics.jsonl."""
    base, rows, libraries = _base(config, prepared), _rows(config, prepared), _libraries()
    parts = [base, *rows, *libraries]
    document = {
        "bomFormat": FORMAT,
        "specVersion": SPECIFICATION,
        "version": 1,
        "metadata": {
            "tools": {"components": [_library(name, number) for name, number in versions((OURS,)).items()]},
            "component": _model(config, digest, last, [each["bom-ref"] for each in rows]),
        },
        "components": parts,
        "dependencies": [{"ref": MODEL, "dependsOn": [each["bom-ref"] for each in parts]}],
    }
    (artifact / BOM).write_text(json.dumps(document, indent=2) + "\n")


def _model(config: RunConfig, digest: str, last: dict[str, float | None], rows: list[str]) -> dict[str, Any]:
    training = config.training
    told = [{"type": name, "value": f"{value:.6g}"} for name, value in last.items() if value is not None]
    writes = training.method.writes
    return {
        "type": "machine-learning-model",
        "bom-ref": MODEL,
        "name": config.name,
        "version": config.revision,
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": "text-generation" if writes else "text-classification",
                "datasets": [{"ref": each} for each in rows],
            },
            "quantitativeAnalysis": {"performanceMetrics": told},
        },
        "properties": [
            {"name": "finetune.dev:digest", "value": digest},
            {"name": "finetune.dev:method", "value": training.method.value},
            {"name": "finetune.dev:adapter", "value": training.adapter.type.value},
        ],
    }


def _base(config: RunConfig, prepared: PrepareResult) -> dict[str, Any]:
    name, commit = config.model.name, prepared.model.commit
    found: dict[str, Any] = {"type": "machine-learning-model", "bom-ref": BASE, "name": name}
    if commit:
        found["version"] = commit
    if config.model.source.uri.startswith(HUB):
        found["purl"] = f"pkg:huggingface/{name}" + (f"@{commit}" if commit else "")
    return found


def _rows(config: RunConfig, prepared: PrepareResult) -> list[dict[str, Any]]:
    asked = config.dataset
    found: dict[str, Source] = {"train": asked.train}
    others = {"validation": asked.validation, "test": asked.test}
    found |= {name: split.source for name, split in others.items() if split and split.source}
    return [
        {
            "type": "data",
            "bom-ref": f"rows-{name}",
            "name": source.uri,
            "data": [{"type": "dataset", "name": name, "contents": {"url": source.uri}}],
            "properties": [{"name": "finetune.dev:rows-digest", "value": prepared.dataset.digest}],
        }
        for name, source in found.items()
    ]


def _libraries() -> list[dict[str, Any]]:
    return [_library(name, number) for name, number in versions().items()]


def _library(name: str, number: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{number}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": number, "purl": purl}
