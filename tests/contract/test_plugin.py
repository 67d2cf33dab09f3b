"""`kubectl finetune` by a real kubectl: the same program under its own name, and how its lines are completed."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from control_plane import binary
from paths import ROOT

SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """PATH with the programs that an installation makes."""
    directory = tmp_path_factory.mktemp("bin")
    for name in ("finetune", "kubectl-finetune", "kubectl_complete-finetune"):
        module, function = SCRIPTS[name].split(":")
        (directory / name).write_text(f"#!{sys.executable}\nfrom {module} import {function}\n{function}()\n")
        (directory / name).chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


def said(path: str, *command: str | Path) -> str:
    environment = {**os.environ, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


def test_kubectl_runs_it_under_its_own_name(path: str) -> None:
    told = said(path, binary("kubectl"), "finetune", "report", "--help")
    assert "Usage: kubectl finetune report " in told
    assert "Usage: finetune report " in said(path, "finetune", "report", "--help")


def test_it_says_which_version_it_is(path: str) -> None:
    assert said(path, "finetune", "--version") == f"finetune {version('finetune-operator')}\n"


def test_kubectl_completes_verbs_and_options(path: str) -> None:
    def proposed(*words: str) -> list[str]:
        return said(path, binary("kubectl"), "__complete", "finetune", *words).split()

    assert proposed("rep") == ["report", ":4"]
    assert proposed("status", "--out") == ["--output", ":4"]
    # Where a manifest is asked for, the shell offers files.
    assert proposed("check", "") == [":0"]


def test_help_takes_no_library_that_trains_or_asks(path: str) -> None:
    script = (
        "import sys\nfrom finetune_cli.main import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'trl', 'peft', 'datasets', 'numpy', 'openai'} & set(sys.modules)))"
    )
    assert said(path, sys.executable, "-c", script).splitlines()[-1] == "[]"
