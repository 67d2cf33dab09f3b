"""Files in a claim that every replica mounts: whole or not there, and no way out of the directory."""

import asyncio
import errno
import io
import json
import os
from collections.abc import MutableMapping
from contextlib import nullcontext
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from finetune_server.directory import Directory
from finetune_server.errors import Problem
from finetune_server.files import Files, in_claim
from finetune_server.streams import Streamed

ROW = b'{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\n'
FORGED = f"file-{'0' * 32}"


def files(root: Path, jobs_claim: str = "") -> Files:
    return Files(in_claim("files", jobs_claim, root))


async def uploaded(kept: Files, namespace: str = "kitchen") -> str:
    return str((await kept.add(namespace, "rows.jsonl", io.BytesIO(ROW)))["id"])


async def test_each_replica_has_what_another_took_and_a_job_finds_it_in_the_claim(tmp_path: Path) -> None:
    one, other = files(tmp_path), files(tmp_path)
    id = await uploaded(one)
    assert (await other.get("kitchen", id))["filename"] == "rows.jsonl"
    assert b"".join(await other.content("kitchen", id)) == ROW
    assert await other.ids("kitchen") == [id]
    assert [each["id"] for each in await other.some("kitchen", [id, FORGED])] == [id]
    assert await other.kept("kitchen") == (1, len(ROW))
    assert one.source("kitchen", id) == f"pvc://files/kitchen/{id}.jsonl"
    assert files(tmp_path, "my-files").source("kitchen", id) == f"pvc://my-files/{id}.jsonl"
    await other.delete("kitchen", id)
    assert await one.ids("kitchen") == []
    assert not list((tmp_path / "kitchen").iterdir())


async def test_another_namespaces_are_not_there(tmp_path: Path) -> None:
    kept = files(tmp_path)
    id = await uploaded(kept)
    with pytest.raises(Problem) as found:
        await kept.get("bakery", id)
    assert (found.value.status, found.value.message) == (404, f"No such file: {id}.")
    assert (await kept.ids("bakery"), await kept.kept("bakery")) == ([], (0, 0))


@pytest.mark.parametrize("kind", ["a link", "a pipe", "a directory", "no JSON"])
async def test_what_somebody_else_has_put_there_leads_nowhere(tmp_path: Path, kind: str) -> None:
    """Whoever's pods mount the claim may write there, too."""
    secret = tmp_path / "token"
    secret.write_text('{"id": "the server\'s own"}')
    kept = files(tmp_path / "files")
    await uploaded(kept)
    told, rows = (tmp_path / f"files/kitchen/{FORGED}.{end}" for end in ("json", "jsonl"))
    match kind:
        case "a link":
            told.symlink_to(secret)
            rows.symlink_to(secret)
        case "a pipe":
            os.mkfifo(told)
        case "a directory":
            told.mkdir()
        case _:
            told.write_text("not JSON")
    with pytest.raises(Problem) as found:
        await kept.get("kitchen", FORGED)
    assert found.value.status == 404
    if kind == "a link":
        with pytest.raises(Problem, match="No such file"):
            await kept.content("kitchen", FORGED)


async def test_a_namespace_that_is_a_link_leads_nowhere(tmp_path: Path) -> None:
    kept = files(tmp_path / "files")
    id = await uploaded(kept)
    (tmp_path / "files/bakery").symlink_to(tmp_path / "files/kitchen")
    with pytest.raises(Problem) as found:
        await kept.get("bakery", id)
    assert found.value.status == 404
    with pytest.raises(Problem) as refused:
        await uploaded(kept, "bakery")
    assert refused.value.status == 503


TOLD = {"id": FORGED, "bytes": 9, "filename": "rows.jsonl", "format": "chat"}


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "7",
        "[" * 60_000,
        json.dumps(TOLD | {"id": f"file-{'1' * 32}"}),
        json.dumps(TOLD | {"bytes": "9"}),
        json.dumps(TOLD | {"bytes": True}),
        json.dumps(TOLD | {"bytes": -1}),
        json.dumps(TOLD | {"filename": None}),
        json.dumps(TOLD | {"filename": "\ud800"}),
        json.dumps(TOLD | {"format": "parquet"}),
        json.dumps(TOLD | {"format": ["chat"]}),
        json.dumps(TOLD | {"created_at": float("nan")}),
        json.dumps(TOLD) + " " * 2**16,
    ],
    ids=range(13),
)
async def test_what_tells_of_no_file_is_left_out(tmp_path: Path, content: str) -> None:
    kept = files(tmp_path)
    id = await uploaded(kept)
    forged = tmp_path / f"kitchen/{FORGED}.json"
    forged.write_text(json.dumps(TOLD))
    assert [each["id"] for each in await kept.some("kitchen", [id, FORGED])] == [id, FORGED]
    forged.write_text(content)
    (tmp_path / "kitchen/notes.json").write_text(content)
    assert sorted(await kept.ids("kitchen")) == sorted([id, FORGED])
    assert [each["id"] for each in await kept.some("kitchen", [id, FORGED])] == [id]
    with pytest.raises(Problem) as found:
        await kept.get("kitchen", FORGED)
    assert found.value.message == f"No such file: {FORGED}."


def test_of_what_is_too_large_no_more_is_read_than_tells_that(tmp_path: Path) -> None:
    """Sparse, it takes no room where it lies."""
    directory = Directory(tmp_path)
    directory.put(f"kitchen/{FORGED}.json", io.BytesIO(b"{}"))
    os.truncate(tmp_path / f"kitchen/{FORGED}.json", 500 * 2**30)
    with pytest.raises(FileNotFoundError):
        directory.cat_file(f"kitchen/{FORGED}.json")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_claim_that_is_full_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    kept = files(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Problem) as found:
        await uploaded(kept)
    assert (found.value.status, found.value.message) == (
        507,
        "The place where files are kept is full: delete files, or ask who runs this server for more room.",
    )


def test_a_draft_that_a_killed_pod_left_goes_once_it_is_old(tmp_path: Path) -> None:
    directory, kitchen = Directory(tmp_path), tmp_path / "kitchen"
    directory.put("kitchen/a.jsonl", io.BytesIO(ROW))
    old, new, others = (f".{FORGED}.jsonl.{'0' * 16}", f".{FORGED}.jsonl.{'1' * 16}", ".nfs0001")
    for name in (old, new, others):
        (kitchen / name).write_bytes(ROW)
    for name in (old, others, "a.jsonl"):
        os.utime(kitchen / name, (0, 0))
    directory.put("kitchen/b.jsonl", io.BytesIO(ROW))
    assert {each.name for each in kitchen.iterdir()} == {new, others, "a.jsonl", "b.jsonl"}


def test_a_file_that_was_taken_is_there_after_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name, too, and that of its namespace."""
    synced: list[str] = []
    fsync = os.fsync

    def noted(opened: int) -> None:
        fsync(opened)
        synced.append(os.readlink(f"/proc/self/fd/{opened}"))
        if os.path.isdir(synced[-1]):
            synced[-1] += f": {', '.join(os.listdir(synced[-1]))}"

    monkeypatch.setattr(os, "fsync", noted)
    Directory(tmp_path).put("kitchen/a.jsonl", io.BytesIO(ROW))
    root, draft, namespace = synced
    assert (root, namespace) == (f"{tmp_path}: kitchen", f"{tmp_path}/kitchen: a.jsonl")
    assert draft.startswith(f"{tmp_path}/kitchen/.a.jsonl.")


def test_what_is_deleted_while_it_is_listed_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, scandir = Directory(tmp_path), os.scandir
    for name in ("a.jsonl", "b.jsonl"):
        directory.put(f"kitchen/{name}", io.BytesIO(ROW))

    def deleted_meanwhile(opened: int) -> Any:
        with scandir(opened) as found:
            each = list(found)
        (tmp_path / "kitchen/a.jsonl").unlink()
        return nullcontext(each)

    monkeypatch.setattr(os, "scandir", deleted_meanwhile)
    assert [each["name"] for each in directory.ls("kitchen")] == ["kitchen/b.jsonl"]


def test_what_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    class BreaksOff(io.RawIOBase):
        def read(self, size: int = -1) -> Any:
            raise OSError("no space left")

    directory = Directory(tmp_path)
    directory.put("kitchen/a.jsonl", io.BytesIO(ROW))
    with pytest.raises(OSError, match="no space left"):
        directory.put("kitchen/a.jsonl", BreaksOff())  # type: ignore[arg-type]
    assert directory.cat_file("kitchen/a.jsonl") == ROW
    assert [each.name for each in (tmp_path / "kitchen").iterdir()] == ["a.jsonl"]


async def test_of_two_that_delete_one_at_once_neither_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, both, remove = files(tmp_path), Barrier(2, timeout=60), Directory.rm_file

    def at_once(self: Directory, path: str) -> None:
        if path.endswith(".json"):
            both.wait()
        remove(self, path)

    monkeypatch.setattr(Directory, "rm_file", at_once)
    id = await uploaded(kept)
    assert await asyncio.gather(*(kept.delete("kitchen", id) for _ in range(2))) == [None, None]
    assert not list((tmp_path / "kitchen").iterdir())


class Rows(io.BytesIO):
    """A file of two pieces, whose second can't be read."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(4)


async def broken_off(kept: Files, id: str) -> list[MutableMapping[str, Any]]:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request"}

    answer = Streamed(await kept.content("kitchen", id))
    await answer({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send)
    return sent


@pytest.mark.parametrize("where", ["open", "read", "half-way"])
async def test_rows_that_can_not_be_read_are_no_fault_of_the_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """Before anything is sent a sentence; later the client sees that it ends too early."""

    def broken(*_: object, **__: object) -> io.BytesIO:
        if where == "open":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rows = Rows(ROW)
        rows.seek(1 if where == "read" else 0)
        return rows

    kept = files(tmp_path)
    id = await uploaded(kept)
    monkeypatch.setattr(Directory, "open", broken)
    if where == "half-way":
        sent = await broken_off(kept, id)
        assert [each.get("body") for each in sent] == [None, ROW[:4]]
        assert all(each.get("more_body", True) for each in sent)
    else:
        with pytest.raises(Problem, match="does not answer: try again") as found:
            await kept.content("kitchen", id)
        assert found.value.status == 503
    assert "Input/output error" in caplog.text


async def test_rows_that_are_deleted_before_they_are_read_are_missing(tmp_path: Path) -> None:
    kept = files(tmp_path)
    id = await uploaded(kept)
    (tmp_path / f"kitchen/{id}.jsonl").unlink()
    with pytest.raises(Problem, match=f"No such file: {id}") as found:
        await kept.content("kitchen", id)
    assert found.value.status == 404
