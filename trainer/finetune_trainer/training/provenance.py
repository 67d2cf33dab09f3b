"""Where an artifact comes from: an in-toto statement with SLSA's provenance of what was trained, from what, and how.

Called by `artifact` when the digest is known. provenance.json lies beside what it tells of and is no part of its
digest, so that the same training gives the same digest on another day and machine. Names are those of the
specifications: https://in-toto.io/Statement/v1 and https://slsa.dev/provenance/v1. Plain pydantic, since in-toto's own
package is protobuf's classes; a test reads what is written with it.
"""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from finetune_trainer.contract.config import IMAGE, PATHS, PROVENANCE, Contract, RunConfig, Source
from finetune_trainer.contract.results import PrepareResult
from finetune_trainer.data.digests import files, of_file
from finetune_trainer.training.machine import Machine

STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"
# What docs/artifacts.md says of the parameters and of what is named.
BUILD_TYPE, BUILDER = "https://finetune.dev/train/v1alpha1", "https://finetune.dev/finetune-operator"
OURS = "finetune-operator"
# Those that rows, weights and losses go through; torch's version names what it was built for.
LIBRARIES = (
    *("accelerate", "bitsandbytes", "datasets", "huggingface-hub", "numpy", "peft"),
    *("safetensors", "tokenizers", "torch", "transformers", "trl"),
)
# A directory's digest as this project has it is one of in-toto's: that of Go's modules.
DIRECTORY, FILE, COMMIT = "dirHash", "sha256", "gitCommit"
SHA256 = "sha256:"


class ResourceDescriptor(Contract):
    """A thing by its name, address and digests."""

    name: str | None = None
    uri: str | None = None
    digest: dict[str, str] | None = None
    annotations: dict[str, Any] | None = None


class BuildDefinition(Contract):
    """What was asked for (`external`), what the trainer chose (`internal`), and what that was made of."""

    build_type: str = BUILD_TYPE
    external_parameters: dict[str, Any]
    internal_parameters: dict[str, Any]
    resolved_dependencies: list[ResourceDescriptor]


class RunDetails(Contract):
    """Who trained it, and what came out beside it."""

    builder: dict[str, Any]
    metadata: dict[str, Any]
    byproducts: list[ResourceDescriptor]


class Provenance(Contract):
    """SLSA's predicate."""

    build_definition: BuildDefinition
    run_details: RunDetails


class Statement(Contract):
    """in-toto's envelope's payload."""

    type: str = Field(STATEMENT, alias="_type")
    subject: list[ResourceDescriptor]
    predicate_type: str = PREDICATE
    predicate: Provenance


def write(
    artifact: Path, digest: str, config: RunConfig, prepared: PrepareResult, machine: Machine, result: Contract
) -> None:
    """Leave it beside the files that it tells of. `result`: what training came to, as artifact.json has it."""
    each = [
        ResourceDescriptor(name=path.relative_to(artifact).as_posix(), digest={FILE: of_file(path)})
        for path in files(artifact)
    ]
    whole = ResourceDescriptor(name=config.name, digest={DIRECTORY: digest.removeprefix(SHA256)})
    statement = Statement(subject=[whole, *each], predicate=_provenance(config, prepared, machine, result))
    told = statement.model_dump_json(by_alias=True, exclude_none=True, indent=2)
    (artifact / PROVENANCE).write_text(f"{told}\n")


def _provenance(config: RunConfig, prepared: PrepareResult, machine: Machine, result: Contract) -> Provenance:
    asked = config.model_dump(mode="json", by_alias=True, exclude=PATHS)
    planned = prepared.plan.model_dump(mode="json", by_alias=True)
    came_to = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    return Provenance(
        build_definition=BuildDefinition(
            external_parameters={"runConfig": asked},
            internal_parameters={"plan": planned, "hardware": hardware(machine)},
            resolved_dependencies=[_model(config, prepared), *_rows(config, prepared), *_libraries(), *_image()],
        ),
        run_details=RunDetails(
            builder={"id": BUILDER, "version": versions((OURS,))},
            metadata={
                "invocationId": f"{config.name}/{config.revision}",
                "finishedOn": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            },
            byproducts=[ResourceDescriptor(name="result", annotations=came_to)],
        ),
    )


def hardware(machine: Machine) -> dict[str, Any]:
    """What it was trained on: every accelerator, or the processes that shared the work on CPUs."""
    kind = torch.cuda.get_device_name() if machine.accelerators else platform.machine()
    return {"kind": kind, "accelerators": machine.accelerators, "processes": machine.processes, "bf16": machine.bf16}


def versions(packages: tuple[str, ...] = LIBRARIES) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _model(config: RunConfig, prepared: PrepareResult) -> ResourceDescriptor:
    model = prepared.model
    digest = {COMMIT: model.commit} if model.commit else {}
    digest |= {DIRECTORY: model.digest.removeprefix(SHA256)} if model.digest else {}
    lineage = {"lineage": list(model.lineage)} if model.lineage else None
    return ResourceDescriptor(
        name="base model", uri=config.model.source.uri, digest=digest or None, annotations=lineage
    )


def _rows(config: RunConfig, prepared: PrepareResult) -> list[ResourceDescriptor]:
    """Each source, and what was read of all: its digest is over the rows, whichever files they were in."""
    asked, found = config.dataset, prepared.dataset
    of_its_own = {"validation": asked.validation, "test": asked.test}
    sources: dict[str, Source] = {"train": asked.train}
    sources |= {name: split.source for name, split in of_its_own.items() if split and split.source}
    counted = {"digest": found.digest, "rows": found.rows.model_dump(), "tokens": found.tokens}
    addresses = [ResourceDescriptor(name=name, uri=source.uri) for name, source in sources.items()]
    return [*addresses, ResourceDescriptor(name="rows", annotations=counted)]


def _libraries() -> list[ResourceDescriptor]:
    found = versions()
    return [ResourceDescriptor(name=name, uri=f"pkg:pypi/{name}@{number}") for name, number in found.items()]


def _image() -> list[ResourceDescriptor]:
    """The image as the Job names it: what a tag meant, no pod is told. Nothing where there is none."""
    image = os.environ.get(IMAGE)
    if not image:
        return []
    _, pinned, digest = image.partition(f"@{SHA256}")
    return [ResourceDescriptor(name="image", uri=image, digest={FILE: digest} if pinned else None)]
