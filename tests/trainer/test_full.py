"""A workspace that fills up ends as a sentence, whichever library's write fails first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from finetune_trainer.contract.outcome import Outcome, Termination
from trainings import MakeCase

# The least privilege that can mount: a namespace of the test's own.
SCRIPT = """
set -e
cp -r "$WORKSPACE" "$COPY"
mount -t tmpfs -o size="$SIZE" tmpfs "$WORKSPACE"
cp -r "$COPY"/. "$WORKSPACE"
exec "$@"
"""


@pytest.mark.parametrize("size", ["32k", "104k"], ids=["checkpoint", "artifact"])
def test_a_full_workspace_is_told(make_case: MakeCase, tmp_path: Path, size: str) -> None:
    case = make_case(total_steps=2)
    log = tmp_path / "termination-log"
    program = [sys.executable, "-m", "finetune_trainer", "train", "--config", str(case.config_file)]
    options = ["--workspace", str(case.workspace.root), "--termination-log", str(log), "--status-port", "0"]

    places = {"WORKSPACE": str(case.workspace.root), "COPY": str(tmp_path / "copy"), "SIZE": size}

    ended = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", SCRIPT, "bash", *program, *options],
        env=os.environ | places,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == Outcome.WORKSPACE_FULL.exit.code, ended.stderr
    assert "is full" in Termination.model_validate_json(log.read_bytes()).message
