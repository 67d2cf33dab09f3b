"""What each extra of the distribution brings is enough for what docs/installing.md says that it can do.

The programs run with nothing but what the extra asks for: what else is installed here, Python doesn't find.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from extras import EXTRAS, needed
from packaging.utils import canonicalize_name
from paths import EXAMPLES
from test_report import kubectl as kubectl_of_a_measured_job
from tiny import write_model

__all__ = ["kubectl_of_a_measured_job"]
Finetune = Callable[..., subprocess.CompletedProcess[str]]

# What a machine without the other libraries would say, for every process that is started with this on its path.
SITE = """
from importlib.machinery import PathFinder

found, hidden = PathFinder.find_spec, {hidden!r}
PathFinder.find_spec = lambda name, *more: None if name.partition(".")[0] in hidden else found(name, *more)
"""


@cache
def missing(extras: tuple[str, ...]) -> set[str]:
    """The modules that are here, and would not be where only these extras were installed."""
    asked = {canonicalize_name(each.name) for extra in extras for each in needed(EXTRAS[extra])}
    there = {*asked, "finetune-operator"}
    modules = packages_distributions().items()
    return {name for name, brought in modules if not there & set(map(canonicalize_name, brought))}


@pytest.fixture
def installed_with(tmp_path: Path) -> Callable[[str], Finetune]:
    """`finetune` as `pip install finetune-operator[…]` would leave it, in a directory of its own."""

    def install(*extras: str) -> Finetune:
        (tmp_path / "site").mkdir()
        (tmp_path / "site/sitecustomize.py").write_text(SITE.format(hidden=missing(extras)))
        environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'site'}:{os.pathsep.join(sys.path)}", "COLUMNS": "200"}

        def run(*arguments: object) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-c", "from finetune_cli.main import main; main()", *map(str, arguments)]
            return subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=600
            )

        return run

    return install


@pytest.mark.parametrize(
    "line",
    [
        ("--help",),
        ("render", EXAMPLES / "minimal.yaml"),
        ("report", "recipes", "-n", "kitchen"),
    ],
    ids=lambda line: line[0],
)
@pytest.mark.usefixtures("kubectl_of_a_measured_job")
def test_the_command_lines_own_libraries_are_enough_for_a_cluster(
    installed_with: Callable[..., Finetune], line: tuple[object, ...]
) -> None:
    done = installed_with("cli")(*line)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("line", [("check", "job.yaml"), ("fetch", "s3://bucket/recipes"), ("report", "--card", "x")])
def test_what_takes_more_names_the_extra(installed_with: Callable[..., Finetune], line: tuple[str, ...]) -> None:
    done = installed_with("cli")(*line)
    assert done.returncode == 4
    said = " ".join(done.stderr.split())
    assert said.startswith("error: This needs ")
    assert said.endswith(", which is not installed here: pip install 'finetune-operator[cli,data]'.")


def test_openais_api_needs_an_extra_that_is_enough(installed_with: Callable[..., Finetune]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        served = installed_with("cli", "serve")("serve", "--port", port)
    # Where it is told that it can't listen, all is imported.
    assert f"error: Port {port} is taken" in served.stderr


def test_without_that_extra_it_is_named(installed_with: Callable[..., Finetune]) -> None:
    said = " ".join(installed_with("cli")("serve").stderr.split())
    assert said.endswith(", which is not installed here: pip install 'finetune-operator[cli,serve]'.")


def test_rows_are_checked_without_torch(installed_with: Callable[..., Finetune], tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    rows = [{"prompt": f"list eggs {number}", "completion": "egg"} for number in range(20)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {"model": {"source": "file://model"}, "dataset": {"train": {"source": "file://train.jsonl"}}}
    job = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "recipes"}}
    (tmp_path / "job.yaml").write_text(json.dumps(job | {"spec": spec | {"evaluation": {"enabled": False}}}))
    finetune = installed_with("cli", "data")
    check = finetune("check", "job.yaml")
    assert check.returncode == 0, check.stderr
    assert "rows to train on" in check.stdout
    plan = finetune("plan", "job.yaml", "-o", "json")
    assert json.loads(plan.stdout)["totalSteps"] > 0, plan.stderr
    run = finetune("run", "--no-serve", "job.yaml")
    assert "Training needs the trainer's libraries: pip install 'finetune-operator[trainer]'." in run.stderr
