"""fetch: a model is brought to where an engine finds it, complete or not at all.

Called by the program's `fetch` command, in the container of an Engine's pod that ends before vLLM starts, and that
alone has the model's credentials. What it leaves beside the model is written last: a pod whose containers start again
fetches nothing again, whether the hub answers or not.
"""

import logging
from pathlib import Path

from finetune_trainer.contract.config import ADAPTER_CONFIG, ModelConfig
from finetune_trainer.contract.outcome import DISK_FULL, Outcome, StageError
from finetune_trainer.contract.results import FetchResult
from finetune_trainer.data import fetch as data
from finetune_trainer.data.disk import write_whole

logger = logging.getLogger(__name__)


def fetch(model: ModelConfig, directory: Path) -> FetchResult:
    """Bring the model to `directory`; beside it there has to be room for a note. Raises StageError."""
    uri, note = model.source.uri, directory.with_name(f"{directory.name}.fetched.json")
    if note.exists():
        logger.info("%s is there already.", uri)
        return FetchResult.model_validate_json(note.read_bytes())
    try:
        result = FetchResult(commit=data.model(model, directory))
        _check(uri, directory)
        write_whole(note, result.model_dump_json(by_alias=True, exclude_none=True))
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise StageError(
            Outcome.WORKSPACE_FULL, f"The pod's volume is too small for {uri}: raise storage.size of the Engine."
        ) from error
    return result


def _check(uri: str, directory: Path) -> None:
    """The engine's own words for these would come later, and be many."""
    if not (directory / "config.json").exists():
        adapter = (directory / ADAPTER_CONFIG).exists()
        why = "it is an adapter, so name the model that it was trained on" if adapter else "it has no config.json"
        raise StageError(Outcome.CONFIG_INVALID, f"{uri} can't be served: {why}.")
    if not any(directory.glob("*.safetensors")):
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"{uri} can't be served: it has no weights in safetensors, the one format that can't run code when it is "
            "loaded.",
        )
