"""The jobs of a directory: finding one, keeping two runs of one apart."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from finetune_cli.errors import ExitCode, UserError
from finetune_cli.store import Store, find
from finetune_operator.api.status import FineTuneJobStatus


def ran(root: Path, *names: str) -> None:
    for name in names:
        store = Store(name, root)
        with store.lock():
            store.write(FineTuneJobStatus(revision="aaaa0001"))


def sentence(name: str | None, root: Path) -> str:
    with pytest.raises(UserError) as failure:
        find(name, root)
    assert failure.value.code == ExitCode.USAGE
    return failure.value.message


def test_the_only_job_needs_no_name(tmp_path: Path) -> None:
    ran(tmp_path, "recipes")
    assert find(None, tmp_path).read() == FineTuneJobStatus(revision="aaaa0001")


def test_what_is_there_is_named_when_the_name_is_missing_or_wrong(tmp_path: Path) -> None:
    assert sentence(None, tmp_path) == "No job was run in this directory yet; `finetune run job.yaml` runs one."
    ran(tmp_path, "recipes", "tickets")
    assert sentence(None, tmp_path) == "Which job? There are recipes, tickets."
    assert sentence("recipe", tmp_path) == "No job recipe was run in this directory; there is recipes, tickets."


def test_git_is_told_to_leave_the_artifacts_alone(tmp_path: Path) -> None:
    ran(tmp_path / ".finetune", "recipes")
    assert (tmp_path / ".finetune" / ".gitignore").read_text() == "*\n"


def test_a_second_run_of_a_job_is_kept_out(tmp_path: Path) -> None:
    store = Store("recipes", tmp_path)
    assert not store.running
    with store.lock():
        assert store.running
        with pytest.raises(UserError) as failure, Store("recipes", tmp_path).lock():
            pytest.fail("two runs share a workspace")
        assert (
            failure.value.message
            == f"recipes is being run already, by process {os.getpid()}; `finetune cancel recipes` ends it."
        )
    assert not store.running


def test_who_only_looks_keeps_no_run_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran(tmp_path, "recipes")
    with (tmp_path / "recipes" / "lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        monkeypatch.setattr(time, "sleep", lambda seconds: fcntl.flock(looking, fcntl.LOCK_UN))
        with Store("recipes", tmp_path).lock():
            pass


def test_a_run_that_does_not_say_who_it_is_yet_is_stopped_once_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Process 0, which would be told otherwise, is everybody around."""
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *asked: told.append(asked))
    store, lock = Store("recipes", tmp_path), tmp_path / "recipes" / "lock"
    ran(tmp_path, "recipes")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        with pytest.raises(UserError) as failure:
            store.stop()
        assert failure.value.message == "Which process runs recipes is not known yet: try again."
        monkeypatch.setattr(time, "sleep", lambda seconds: lock.write_text("123"))
        store.stop()
    assert told == [(123, signal.SIGTERM)]


# Holds the lock, starts a child as `run` does, and is killed.
KILLED = """
import os, signal, sys
from pathlib import Path
from finetune_cli.processes import Child
from finetune_cli.store import Store
with Store("recipes", Path(sys.argv[1])).lock():
    child = Child([sys.executable, "-c", "import signal; signal.pause()"], Path(sys.argv[1]) / "log", os.environ, 1)
    print(child._process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_left_behind_keeps_others_out(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path], capture_output=True, text=True, check=False)
    store = Store("recipes", tmp_path)
    pid = (tmp_path / "recipes" / "lock").read_text()
    with pytest.raises(UserError) as failure, store.lock():
        pytest.fail("two trainers share a workspace")
    assert failure.value.message == (
        f"Process {pid}, which ran recipes, was killed and left its trainer or engine running; end that with "
        f"`fuser -k {tmp_path}/recipes/lock` and run again."
    )
    os.kill(int(killed.stdout), signal.SIGKILL)


def test_an_unreadable_document_counts_as_none(tmp_path: Path) -> None:
    ran(tmp_path, "recipes")
    store = Store("recipes", tmp_path)
    store.status_file.write_text('{"phase": "FromTheFuture"}')
    assert store.read() is None
