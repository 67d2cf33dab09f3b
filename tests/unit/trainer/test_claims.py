"""A claim as a destination: what a full or a forbidden disk leaves there, and what is told.

What holds for all destinations alike is in `test_publish`.
"""

from pathlib import Path

import pytest
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data.filesystems.pvc import Claims


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A file to publish."""
    found = tmp_path / "weights"
    found.write_bytes(b"weights")
    return found


def test_a_claim_that_is_full_keeps_what_it_had_and_no_half_of_what_is_new(tmp_path: Path, local: Path) -> None:
    place = tmp_path / "models/recipes"
    place.mkdir(parents=True)
    (place / "a.safetensors").write_bytes(b"before")
    # Whatever is written to it finds no space left.
    (place / ".a.safetensors.partial").symlink_to("/dev/full")
    with pytest.raises(StageError) as found:
        Claims(tmp_path).put_file(str(local), "models/recipes/a.safetensors")
    assert found.value.outcome == Outcome.WORKSPACE_FULL
    assert found.value.message == (
        "PersistentVolumeClaim models is full, so that pvc://models/recipes/a.safetensors could not be written: make "
        "it larger, or remove what nobody needs."
    )
    assert {path.name: path.read_bytes() for path in place.iterdir()} == {"a.safetensors": b"before"}


def test_a_disk_that_is_full_here_is_not_the_claims(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/a").write_bytes(b"a")
    with pytest.raises(OSError, match="No space left") as found:
        Claims(tmp_path).get_file("models/a", "/dev/full")
    assert not isinstance(found.value, StageError)


def test_a_claim_that_can_not_be_written_to_is_told() -> None:
    with pytest.raises(StageError) as found:
        Claims(Path("/sys")).pipe_file("kernel/recipes/claim.json", b"{}", mode="create")
    assert found.value.outcome == Outcome.ACCESS_DENIED
    assert found.value.message.startswith("pvc://kernel/recipes/claim.json was refused to user ")


def test_a_directory_that_no_finetunejob_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "models/recipes").mkdir(parents=True)
    (tmp_path / "models/recipes/notes.txt").write_text("mine")
    with pytest.raises(StageError) as found:
        Claims(tmp_path).pipe_file("models/recipes/claim.json", b"{}", mode="create")
    assert found.value.message == (
        "pvc://models/recipes is something that no FineTuneJob published: choose another output.destination."
    )
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["recipes"]
    assert [path.name for path in (tmp_path / "models/recipes").iterdir()] == ["notes.txt"]


def test_a_claim_that_is_not_mounted_is_told(tmp_path: Path) -> None:
    with pytest.raises(StageError) as found:
        Claims(tmp_path).cat_file("models/recipes/manifest.json")
    assert found.value.outcome == Outcome.NOT_FOUND
    assert found.value.message == (
        "PersistentVolumeClaim models is not mounted here: pvc://models/recipes/manifest.json is read in a pod of its "
        f"namespace that has the claim at {tmp_path}/models."
    )
