"""Disks that fill up, in the middle of a file: whose it is and what to do is told, and nothing half looks whole."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from evaluating import BASELINES, Case, prepared, reply
from finetune_trainer.contract.outcome import Outcome, Termination
from finetune_trainer.data import digests
from finetune_trainer.server import Reporter
from finetune_trainer.stages import complete
from finetune_trainer.stages.prepare import prepare
from full_disks import PAGE, on_a_small_disk, taken
from small_engine import Engine, running
from stores import Store
from test_publish import OURS, config, publish, trained

# More than the disk has; what comes before it fits.
FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": bytes(200_000)}
# The least privilege that can mount: a namespace of the test's own.
SCRIPT = """
set -e
if [ -n "$BELOW" ]; then mount -t tmpfs tmpfs "$BELOW"; mkdir -p "$DISK"; fi
mount -t tmpfs -o size=64k tmpfs "$DISK"
"$@" && code=0 || code=$?
cd "$DISK" && find . -type f
exit $code
"""


def ends(disk: Path, *program: str | Path, below: str = "") -> subprocess.CompletedProcess[str]:
    """How a program ends with a small disk there; its output ends with the files that it left on that."""
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", SCRIPT, "bash", *map(str, program)],
        env=os.environ | {"DISK": str(disk), "BELOW": below},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_claim_that_is_full_has_no_artifact(tmp_path: Path) -> None:
    trained(tmp_path / "workspace", FILES)
    (tmp_path / "run.json").write_text(config().model_dump_json(by_alias=True))
    options = {"config": "run.json", "workspace": "workspace", "termination-log": "termination"}
    paths = [part for name, path in options.items() for part in (f"--{name}", str(tmp_path / path))]
    asked = ("--destination", "pvc://models/recipes", "--owner", OURS, "--status-port", "0", *paths)
    program = (sys.executable, "-m", "finetune_trainer", "publish", *asked)
    ended = ends(Path("/mnt/claims/models"), *program, below="/mnt")
    assert ended.returncode == Outcome.WORKSPACE_FULL.exit.code, ended.stderr
    assert Termination.model_validate_json((tmp_path / "termination").read_bytes()).message == (
        "PersistentVolumeClaim models is full, so that pvc://models/recipes/0a1b2c3d/adapter_model.safetensors could "
        "not be written: make it larger, or remove what nobody needs."
    )
    left = set(ended.stdout.split())
    assert "./recipes/0a1b2c3d/claim.json" in left
    assert not [name for name in left if "manifest.json" in name or "safetensors" in name]


def said(directory: Path, ended: subprocess.CompletedProcess[str]) -> str:
    """The message of a stage whose workspace was too small."""
    assert ended.returncode == Outcome.WORKSPACE_FULL.exit.code, ended.stderr
    return Termination.model_validate_json((directory / "log").read_bytes()).message


def test_an_evaluation_on_a_full_volume_asks_the_rest_once_there_is_room(tmp_path: Path) -> None:
    with running(Engine(reply)) as engine:
        case = Case(tmp_path, engine)
        case.prepared()
        workspace = case.workspace.root
        ended = on_a_small_disk(workspace, taken(workspace) + 2 * PAGE, case.program(baselines=BASELINES[:1]))
        assert said(tmp_path, ended) == f"The workspace volume at {workspace} is full: raise workspace.size."
        assert [path.name for path in case.workspace.evaluations.iterdir() if path.is_file()] == ["answers.jsonl"]
        kept, asked = case.workspace.answers.read_bytes().count(b"\n"), len(case.asked())
        assert kept
        case.evaluate(baselines=BASELINES[:1])
        # What was under way when the first one ended may reach the engine only now.
        assert len({json.dumps(body, sort_keys=True) for body in case.asked()[asked:]}) == 40 - kept


def test_rows_that_fill_a_volume_are_prepared_once_there_is_room(tmp_path: Path) -> None:
    configuration, workspace = prepared(tmp_path)
    expected = digests.digest(workspace.data)
    needed = taken(workspace.root)
    shutil.rmtree(workspace.root)
    workspace.root.mkdir()
    (tmp_path / "run.json").write_text(configuration.model_dump_json(by_alias=True))
    options = {"config": "run.json", "workspace": workspace.root.name, "termination-log": "log"}
    paths = [part for name, path in options.items() for part in (f"--{name}", str(tmp_path / path))]
    program = (sys.executable, "-m", "finetune_trainer", "prepare", *paths, "--status-port", "0")
    ended = on_a_small_disk(workspace.root, needed // 2 // PAGE * PAGE, program)
    assert said(tmp_path, ended) == f"The workspace volume at {workspace.root} is full: raise workspace.size."
    assert complete.result("prepare", configuration, workspace) is None
    prepare(configuration, workspace, Reporter("prepare"))
    assert digests.digest(workspace.data) == expected


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_a_fetch_to_a_full_disk_leaves_nothing(store: Store, tmp_path: Path) -> None:
    uri = publish(trained(tmp_path / "workspace", FILES), store.place).uri
    (disk := tmp_path / "disk").mkdir()
    ended = ends(disk, Path(sys.executable).with_name("finetune"), "fetch", uri, "--to", disk / "adapter")
    assert ended.returncode, ended.stdout
    told = " ".join(ended.stderr.split())
    assert f"The disk with {disk / 'adapter'} is full, and nothing was left there: make room, or name" in told
    assert "./" not in ended.stdout
