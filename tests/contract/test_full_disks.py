"""Disks that fill up, in the middle of a file: whose it is and what to do is told, and nothing half looks whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from finetune_trainer.contract.outcome import Outcome, Termination
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


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_a_fetch_to_a_full_disk_leaves_nothing(store: Store, tmp_path: Path) -> None:
    uri = publish(trained(tmp_path / "workspace", FILES), store.place).uri
    (disk := tmp_path / "disk").mkdir()
    ended = ends(disk, Path(sys.executable).with_name("finetune"), "fetch", uri, "--to", disk / "adapter")
    assert ended.returncode, ended.stdout
    told = " ".join(ended.stderr.split())
    assert f"The disk with {disk / 'adapter'} is full, and nothing was left there: make room, or name" in told
    assert "./" not in ended.stdout
