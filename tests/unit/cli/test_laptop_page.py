"""`finetune ui` apart from its pages, which tests/report walks: what it reads, and what it does without."""

import subprocess
import sys
from base64 import urlsafe_b64encode
from pathlib import Path

import httpx
import pytest
from finetune_cli import main
from finetune_cli.errors import UserError
from finetune_cli.jobs import Job
from finetune_cli.store import Store
from finetune_cli.ui import Runs, application
from finetune_server.errors import Problem
from statuses import job, serving, training
from typer.testing import CliRunner


def test_it_needs_neither_the_training_libraries_nor_a_clusters() -> None:
    heavy = ["torch", "transformers", "datasets", "pyarrow", "kubernetes"]
    line = f"import sys, finetune_cli.ui; sys.exit(' '.join(sorted(set({heavy}) & set(sys.modules))))"
    assert subprocess.run([sys.executable, "-c", line], capture_output=True, text=True).stderr.strip() == ""


def test_without_its_libraries_it_says_which_extra_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "find_spec", lambda name: None)
    with pytest.raises(UserError) as found:
        CliRunner().invoke(main.app, ["ui"], catch_exceptions=False)
    assert "pip install 'finetune-operator[cli,ui]'" in found.value.message


async def test_the_losses_are_those_of_status_until_the_artifact_has_all(tmp_path: Path) -> None:
    store = Store("recipes", tmp_path / ".finetune")
    store.status_file.parent.mkdir(parents=True)
    store.status_file.touch()
    told = training(curve=[{"step": 10, "loss": "2.0000"}]) | {"progress": None}
    assert await Runs(tmp_path).curve(job(told)) == [(10, 2.0, None)]
    artifact = store.workspace(told["revision"]).artifact
    artifact.mkdir(parents=True)
    (artifact / "metrics.jsonl").write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.5, "validationLoss": 2}\n')
    assert await Runs(tmp_path).curve(job(told)) == [(1, 3.0, None), (2, 2.5, 2.0)]


def test_a_run_goes_on_where_its_manifest_lies_here(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    killed = job(training() | {"phase": "Suspended"}, idle=True)
    assert runs.actions(killed) == ()
    (tmp_path / "recipes.yaml").touch()
    assert [action.name for action in runs.actions(killed)] == ["resume"]
    assert [action.name for action in runs.actions(job(training()))] == ["cancel"]
    assert runs.actions(job(serving(), idle=True)) == ()


async def test_what_does_not_answer_is_told(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    with pytest.raises(Problem, match="recipes is not being served; start it with `finetune run`"):
        await runs.ask(job(training()), [], base=False)
    gone = serving() | {"endpoint": {"url": "http://127.0.0.1:9/v1", "model": "recipes"}}
    with pytest.raises(Problem, match=r"http://127.0.0.1:9/v1 does not answer"):
        await runs.ask(job(gone), [], base=True)
    with pytest.raises(Problem, match="No job was run in this directory yet"):
        await runs.job("recipes")


async def watched(directory: Path, page: str) -> httpx.Response:
    """The news of a page, until they end."""
    cookies = {"finetune-1": urlsafe_b64encode(b"token").decode()}
    way = httpx.ASGITransport(application(directory, "token", 1))
    async with httpx.AsyncClient(transport=way, base_url="http://localhost", cookies=cookies) as browser:
        return await browser.get(f"/ui/{page}events")


async def test_news_of_what_is_not_there_are_refused_as_a_page_is(tmp_path: Path) -> None:
    """A browser asks no more for them then."""
    found = await watched(tmp_path, "jobs/recipes/")
    assert found.status_code == 404
    assert "No job was run in this directory yet" in found.text


async def test_news_end_once_there_are_none_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([[job(training())]])

    async def removed_after_a_look(runs: Runs) -> list[Job]:
        if found := next(looks, None):
            return found
        raise Problem(409, "No job was run in this directory yet.")

    monkeypatch.setattr("finetune_cli.ui.POLL_SECONDS", 0)
    monkeypatch.setattr(Runs, "jobs", removed_after_a_look)
    found = await watched(tmp_path, "")
    assert found.status_code == 200
    assert "event: jobs" in found.text
