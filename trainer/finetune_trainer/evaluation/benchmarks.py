"""Benchmarks by lm-evaluation-harness, to see what a tuned model has gained or lost beside its task.

Called by `measuring`, and by `prepare`, which refuses early. The harness is an extra of this distribution, and
works in a process of its own (`harness`). It asks the engines like everything here, reads tasks and rows from files
alone, and runs no code of a task's.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from finetune_trainer.contract.config import LmEvalConfig
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.results import Benchmark

LIBRARY, HARNESS = "lm_eval", "finetune_trainer.evaluation.harness"
# What `datasets` calls the files that it reads; any other name is one on the hub.
FILES = ("arrow", "csv", "json", "parquet", "text")
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
# Of its log, where it fails: the end says why.
TAIL = 400


@dataclass(frozen=True)
class HarnessTargets:
    """Whom the harness asks: where each model answers, the base model's tokenizer, and a request's tokens at most."""

    urls: Mapping[str, str]
    tokenizer: Path
    context_length: int


def check(wanted: LmEvalConfig) -> None:
    """Raises StageError for what can't be measured: no harness, no such task, or one that needs the hub or its code."""
    if find_spec(LIBRARY) is None:
        raise _refused(
            "needs lm-evaluation-harness, which this trainer lacks: build its image with --build-arg "
            "EXTRAS=trainer,lm-eval and name it in training.image (on a laptop: pip install "
            "'finetune-operator[lm-eval]'), or remove evaluation.lmEval."
        )
    declared = {
        task["task"]: task for task in map(_task, _files(wanted, "*.yaml")) if isinstance(task.get("task"), str)
    }
    if missing := [task for task in wanted.tasks if task not in declared]:
        there = ", ".join(sorted(declared)) or "none"
        raise _refused(f"{wanted.source.uri} has no task {', '.join(missing)}; there: {there}.")
    for name in wanted.tasks:
        if (path := declared[name].get("dataset_path")) not in FILES:
            raise _refused(
                f"task {name} takes its rows from {path}; put them beside it, and name them by dataset_path "
                f"({', '.join(FILES)}) and dataset_kwargs.data_files."
            )


def measure(
    wanted: LmEvalConfig, engines: HarnessTargets, tuned: str, base: str | None, alive: Callable[[], object]
) -> dict[str, Benchmark]:
    """Each task by its first metric, of the models of these names.

    `alive` raises StageError where a failure is an engine's. Raises StageError for others.
    """
    found = _results(wanted, engines, alive)
    measured = {}
    for task in wanted.tasks:
        key = _first(found[tuned][task])
        theirs = found[base][task][key] if base else None
        measured[task] = Benchmark(metric=key.partition(",")[0], tuned=found[tuned][task][key], base=theirs)
    return measured


def told(found: dict[str, Benchmark]) -> list[str]:
    """A sentence for each."""
    return [f"{task}, by lm-evaluation-harness: {_compared(benchmark)}." for task, benchmark in found.items()]


def _compared(found: Benchmark) -> str:
    if found.base is None:
        return f"{found.metric} {found.tuned:.3f}; the base model is not served beside this one"
    gained = found.tuned - found.base
    return f"{found.metric} {found.tuned:.3f}, the base model {found.base:.3f}, a difference of {gained:+.3f}"


def _results(wanted: LmEvalConfig, engines: HarnessTargets, alive: Callable[[], object]) -> dict[str, Any]:
    """What the harness found, by model, task and metric."""
    # The openai client takes a second to import, and whoever only checks asks nobody.
    from finetune_trainer.evaluation.endpoint import engine_key

    with TemporaryDirectory() as scratch:
        told, found, tasks = (Path(scratch) / name for name in ("told.json", "found.json", "tasks"))
        tasks.mkdir()
        # A mounted ConfigMap has each file twice, and a task's code is left where it is.
        for path in _files(wanted, "*"):
            if path.suffix != ".py":
                shutil.copy(path, tasks)
        told.write_text(json.dumps(_told(wanted, engines, tasks)))
        # The judge's key is nobody else's.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("FINETUNE_")}
        environment |= {**OFFLINE, "HF_HOME": scratch, "OPENAI_API_KEY": engine_key()}
        done = subprocess.run(  # noqa: S603  (our own program)
            [sys.executable, "-m", HARNESS, str(told), str(found)],
            cwd=tasks,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            alive()
            raise _refused(f"lm-evaluation-harness failed with {wanted.source.uri}: …{done.stdout.strip()[-TAIL:]}")
        return dict(json.loads(found.read_text()))


def _told(wanted: LmEvalConfig, engines: HarnessTargets, tasks: Path) -> dict[str, Any]:
    return {
        "urls": {model: f"{url}/completions" for model, url in engines.urls.items()},
        "model_args": {
            "tokenizer": str(engines.tokenizer),
            "tokenizer_backend": "huggingface",
            "max_length": engines.context_length,
            # On CPUs vLLM's engine can't tell the likelihoods of two prompts to a LoRA model at once.
            "num_concurrent": 1,
        },
        "tasks": wanted.tasks,
        "include_path": str(tasks),
        "limit": wanted.limit,
    }


def _first(scores: dict[str, Any]) -> str:
    """The first metric of a task's; beside them stand the task's name and standard errors."""
    return next(key for key in scores if "," in key and "_stderr," not in key)


def _files(wanted: LmEvalConfig, pattern: str) -> list[Path]:
    directory = wanted.source.path
    if directory is None or not directory.is_dir():
        raise StageError(Outcome.NOT_FOUND, f"evaluation.lmEval.source: {wanted.source.uri} is no directory.")
    return sorted(path for path in directory.glob(pattern) if path.is_file())


def _task(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise _refused(f"{path.name} is no plain YAML, and code (!function) is not run: {problem}.") from error
    return found if isinstance(found, dict) else {}


def _refused(what: str) -> StageError:
    return StageError(Outcome.CONFIG_INVALID, f"evaluation.lmEval: {what}")
