"""A directory to run in, and a manifest for a small model."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from laptop import NAME, SMOLLM2, TINY, Command, Finetune

# Those with most to do first, or one core would be idle while the last of them ends.
LONGEST = ["test_run", "test_measured", "test_preferences", "test_text_to_sql", "test_serve"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole files, two at a time."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session", autouse=True)
def hear_ctrl_c() -> Iterator[None]:
    """A shell starts its background jobs deaf to Ctrl-C, and so would be what this starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the user stands."""
    return tmp_path_factory.mktemp("user")


@pytest.fixture
def finetune(directory: Path) -> Iterator[Finetune]:
    """Starts `finetune ARGUMENTS…` there; what still runs at the end of a test is ended."""
    started: list[Command] = []

    def start(*arguments: str, **environment: str) -> Command:
        started.append(Command(directory, *arguments, **environment))
        return started[-1]

    yield start
    for command in started:
        if command.process.poll() is None:
            command.interrupt()


@pytest.fixture(scope="module")
def write(directory: Path) -> Callable[..., None]:
    """Writes job.yaml: the tiny model, its spec's sections replaced by those given."""
    for model in (TINY, SMOLLM2):
        assert model.is_dir(), f"{model} is missing; `make model` makes it"

    def manifest(**sections: Any) -> None:
        spec = {
            "model": {"source": f"file://{TINY}"},
            "dataset": {"train": {"source": "file://train.jsonl"}},
            "evaluation": {"enabled": False},
        } | sections
        job = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": NAME}, "spec": spec}
        (directory / "job.yaml").write_text(yaml.safe_dump(job))

    return manifest
