"""A workspace's files in a bucket: a part is what it was or what it is to be, wherever its writer is killed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.data import bucket
from finetune_trainer.data.parts import Parts
from s3 import refused
from stores import Killed, Store

BEFORE = {"checkpoints/checkpoint-1/weights": b"one", "checkpoints/precision": b"float32"}
AFTER = {"checkpoints/checkpoint-2/weights": b"two", "checkpoints/precision": b"float32"}
PART = "training"
Pod = Callable[[str], Parts]

# What hangs on what a server promises, and what is the same whoever is asked.
everywhere = pytest.mark.parametrize("store", ["s3", "gs", "abfs"], indirect=True)
alike = pytest.mark.parametrize("store", ["s3"], indirect=True)


@pytest.fixture
def pod(store: Store, tmp_path: Path) -> Pod:
    """A pod of this name, with an empty directory."""
    # What takes time is to make a client.
    made = bucket.filesystem(store.place, "workspace", bucket.credentials("workspace"))
    store.environment.setattr(bucket, "filesystem", lambda *asked: made)
    return lambda name: Parts(store.place, tmp_path / name)


def found(parts: Parts) -> dict[str, bytes] | None:
    """What a pod brings; None where there is nothing."""
    if not parts.bring(PART):
        return None
    files = [path for path in (parts.root / "checkpoints").rglob("*") if path.is_file()]
    return {path.relative_to(parts.root).as_posix(): path.read_bytes() for path in files}


def put(parts: Parts, files: dict[str, bytes]) -> None:
    """What a pod does that trains: it goes on from what is there, and leaves something else."""
    for name in found(parts) or ():
        (parts.root / name).unlink()
    for name, content in files.items():
        path = parts.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    parts.put(PART, [parts.root / "checkpoints"])


def there(store: Store) -> list[str]:
    """The names of the files that lie there, whatever directories they are in."""
    return sorted(path.rpartition("/")[2] for path in store.names(store.place))


@everywhere
def test_what_one_pod_puts_another_brings_and_no_more_is_left_there(store: Store, pod: Pod) -> None:
    assert found(pod("nobody")) is None
    put(pod("first"), BEFORE)
    assert found(pod("second")) == BEFORE
    put(pod("third"), AFTER)
    assert found(pod("fourth")) == AFTER
    assert there(store) == ["2.json", "precision", "weights"]
    content = b"".join(store.get(f"{store.place}/{name}") for name in store.names(store.place))
    assert [word for word in store.secrets if word.encode() in content] == []
    pod("fifth").remove(PART)
    assert found(pod("sixth")) == {}
    assert there(store) == ["3.json"]


@alike
def test_what_grows_while_it_is_put_is_brought_as_it_was(store: Store, pod: Pod) -> None:
    writer, server = pod("first"), bucket.filesystem(store.place, "workspace", {})
    answers, upload = writer.root / "checkpoints/answers", server.put_file
    answers.parent.mkdir(parents=True)
    answers.write_bytes(b"one\n")

    def meanwhile(*asked: Any, **more: Any) -> None:
        with answers.open("ab") as file:
            file.write(b"two\n")
        upload(*asked, **more)

    store.environment.setattr(server, "put_file", meanwhile)
    writer.put(PART, [answers.parent], growing=True)
    assert found(pod("second")) == {"checkpoints/answers": b"one\n"}
    assert sorted(path.name for path in writer.root.iterdir()) == [".parts", "checkpoints"]


@alike
def test_what_has_not_changed_is_not_written_again(store: Store, pod: Pod) -> None:
    put(pod("first"), BEFORE)
    writer = pod("second")
    found(writer)
    store.dies(0)
    put(writer, BEFORE)
    with pytest.raises(Killed):
        put(Parts(store.place, writer.root), AFTER)


@everywhere
def test_killed_between_any_two_writes_it_is_what_it_was_or_what_it_is_to_be(
    store: Store, pod: Pod, tmp_path: Path
) -> None:
    seen = []
    # An object, the list, and then the list and the object that are not needed any more.
    for at in range(4):
        put(pod(f"before-{at}"), BEFORE)
        with store.environment.context() as environment:
            replace(store, environment=environment).dies(at)
            with pytest.raises(Killed):
                put(Parts(store.place, tmp_path / f"killed-{at}"), AFTER)
        seen.append(found(pod(f"seen-{at}")))
        put(pod(f"next-{at}"), {"checkpoints/checkpoint-3/weights": b"3"})
        assert [name for name in there(store) if not name.endswith(".json")] == ["weights"]
    assert seen == [BEFORE, BEFORE, AFTER, AFTER]


@everywhere
def test_of_two_pods_that_write_the_same_the_second_ends_and_spoils_nothing(store: Store, pod: Pod) -> None:
    put(pod("first"), BEFORE)
    cut_off, other = pod("cut-off"), pod("other")
    found(cut_off)
    put(other, AFTER)
    (cut_off.root / "checkpoints/precision").write_bytes(b"bfloat16")
    error = refused(lambda: cut_off.put(PART, [cut_off.root / "checkpoints"]))
    assert error.outcome == Outcome.UNAVAILABLE
    assert error.message == (
        f"Another pod has written to {store.place}/{PART} since this one began. What this one made is left out, and "
        "the next run goes on from what is there."
    )
    assert found(pod("third")) == AFTER


@alike
def test_a_list_whose_answer_was_lost_is_the_pods_own(store: Store, pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = pod("first")
    written = writer._filesystem.pipe_file

    def unanswered(*given: Any, **options: Any) -> None:
        written(*given, **options)
        raise TimeoutError

    with monkeypatch.context() as lost:
        lost.setattr(writer._filesystem, "pipe_file", unanswered)
        refused(lambda: put(writer, BEFORE))
    put(writer, AFTER)
    assert found(pod("second")) == AFTER
    assert there(store) == ["2.json", "precision", "weights"]


@everywhere
def test_what_is_replaced_while_it_is_brought_is_brought_anew_and_no_half_of_it_stays(store: Store, pod: Pod) -> None:
    put(pod("first"), BEFORE | {"checkpoints/checkpoint-1/optimizer": b"state"})
    third, filesystem, others = pod("third"), store._filesystem, [pod("second")]
    get = filesystem.get_file

    def replaced(*told: str) -> None:
        if told[0].endswith("weights") and others:
            put(others.pop(), AFTER)
        get(*told)

    store.environment.setattr(filesystem, "get_file", replaced)
    assert found(third) == AFTER
    assert not (third.root / "checkpoints/checkpoint-1").exists()


@alike
def test_what_was_changed_or_removed_there_is_told(store: Store, pod: Pod) -> None:
    put(pod("first"), BEFORE)
    (path,) = (path for path in store.names(store.place) if path.endswith("weights"))
    store.put(f"{store.place}/{path}", b"poisoned")
    error = refused(lambda: found(pod("second")))
    assert error.outcome == Outcome.DATA_INVALID
    assert error.message == f"{store.place}/{path} is not what was put there: its digest differs."
    store._filesystem.rm_file(f"{store.place}/{path}".partition("://")[2])
    error = refused(lambda: found(pod("third")))
    assert error.outcome == Outcome.NOT_FOUND
    assert "lacks objects that its list names" in error.message


@alike
def test_a_list_can_name_no_file_outside_of_the_workspace(store: Store, pod: Pod, tmp_path: Path) -> None:
    put(pod("first"), BEFORE)
    name = f"{store.place}/{PART}/1.json"
    document = store.get(name)
    store.put(name, document.replace(b"checkpoints/precision", b"../outside"))
    assert "names a file outside of the artifact: ../outside" in refused(lambda: found(pod("second"))).message
    away = document.replace(b"checkpoints/precision", b"away/precision")
    store.put(name, away)
    third = pod("third")
    third.root.mkdir()
    (third.root / "away").symlink_to(tmp_path)
    assert "names a file outside of the workspace: away/precision" in refused(lambda: found(third)).message


@alike
def test_a_link_to_where_base_models_are_kept_for_all_stays_one(store: Store, pod: Pod, tmp_path: Path) -> None:
    first, second = pod("first"), pod("second")
    first.root.mkdir()
    (first.root / "model").symlink_to(tmp_path / "cache")
    first.put(PART, [first.root / "model"])
    second.bring(PART)
    assert (second.root / "model").readlink() == tmp_path / "cache"
