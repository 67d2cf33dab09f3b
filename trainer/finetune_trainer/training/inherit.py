"""The base model that another FineTuneJob's artifact is: a whole model in the workspace, the source needed no more.

Called by `prepare` for a source ftj://. The engine serves one adapter on a base model, so what an adapter has learned
becomes a part of the weights that the next training starts from.
"""

import json
import shutil
from pathlib import Path

from finetune_trainer.contract.config import ADAPTER_CONFIG, RUN_CONFIG, Method, Origin, Workspace
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.published import MERGED
from finetune_trainer.data.digests import digest
from finetune_trainer.training import merging


def model(uri: str, origin: Origin, target: Path) -> None:
    """Bring it to `target`. Raises StageError where it is not what the record says, or can't be merged."""
    files = Workspace(origin.files)
    artifact = files.artifact if origin.step is None else files.checkpoint(origin.step)
    _verify(uri, artifact, origin)
    _check_writes(uri, artifact)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    if (artifact / MERGED).exists():
        merging.copy(artifact / MERGED, target)
    elif (artifact / ADAPTER_CONFIG).exists():
        merging.copy(origin.base.path or files.model, target)
        try:
            merging.merge(artifact, target)
        except ValueError as error:
            raise _unmergeable(uri, str(error)) from error
    else:
        merging.copy(artifact, target)


def _verify(uri: str, artifact: Path, origin: Origin) -> None:
    if not artifact.exists():
        raise StageError(Outcome.NOT_FOUND, f"{uri} has no files any more: {artifact} is not there.")
    if (found := digest(artifact)) != origin.digest:
        raise StageError(
            Outcome.NOT_FOUND,
            f"{uri} is not what was trained: its files have the digest {found}, and its record has {origin.digest}. "
            "Somebody has changed them; train it again, or start from another revision.",
        )


def _check_writes(uri: str, artifact: Path) -> None:
    method = Method(json.loads((artifact / RUN_CONFIG).read_text())["training"]["method"])
    if not method.writes:
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"{uri} was trained by method {method.value} and writes nothing: start from a model that answers.",
        )


def _unmergeable(uri: str, why: str) -> StageError:
    return StageError(Outcome.CONFIG_INVALID, f"{uri} can't be trained further: its adapter {why}.")
