"""prepare's downloads from the hub: what arrives, from which commit, and what each refusal says."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from finetune_trainer.contract.config import ModelConfig, Source
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data import fetch
from hub import Hub, Repository, listening

OLD, NEW = "0" * 40, "1" * 40
TOKEN = "hf_the-token"
NEEDED = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "tokenizer.json": b"[]",
    "chat_template.jinja": b"{{}}",
}
UNWANTED = {
    "pytorch_model.bin": b"pickle",
    "modeling_tiny.py": b"code",
    "README.md": b"",
    "onnx/config.json": b"{}",
    "consolidated.safetensors": b"weights",
    "original/model.safetensors": b"weights",
}
ROWS = "hf://datasets/acme/rows/data/train.jsonl"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub with a model of two commits and a dataset, which model and dataset are both told to use."""
    repositories = {
        "acme/tiny": Repository(
            {OLD: {"config.json": b"old", "vocab.json": b"{}"}, NEW: NEEDED | UNWANTED}, {"main": NEW}
        ),
        "datasets/acme/rows": Repository(
            {OLD: {"data/train.jsonl": b"old\n"}, NEW: {"data/train.jsonl": b"new\n"}}, {"main": NEW, "v1": OLD}
        ),
    }
    for name in [name for name in os.environ if name.startswith(("HF_", "FINETUNE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with listening(Hub(repositories)) as found:
        for owner in ("MODEL", "DATASET"):
            monkeypatch.setenv(f"FINETUNE_{owner}_HF_ENDPOINT", found.endpoint)
        yield found


def fetch_model(target: Path, name: str = "acme/tiny", revision: str | None = None, code: bool = False) -> str | None:
    source = Source(uri=f"hf://{name}")
    return fetch.model(ModelConfig(source=source, revision=revision, trust_remote_code=code), target)


def refused(what: Callable[[], object]) -> StageError:
    with pytest.raises(StageError) as found:
        what()
    assert TOKEN not in found.value.message
    return found.value


def files(directory: Path) -> dict[str, bytes]:
    """What lies there, but for the client's own notes."""
    found = {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if not name.startswith(".cache")}


def test_a_model_arrives_without_what_could_run_by_itself_and_its_commit_is_told(hub: Hub, tmp_path: Path) -> None:
    assert fetch_model(tmp_path / "model") == NEW
    assert files(tmp_path / "model") == NEEDED


def test_a_models_code_comes_only_when_it_is_trusted(hub: Hub, tmp_path: Path) -> None:
    fetch_model(tmp_path / "model", code=True)
    assert files(tmp_path / "model").keys() == NEEDED.keys() | {"modeling_tiny.py"}


def test_a_revision_is_the_commit_that_is_brought(hub: Hub, tmp_path: Path) -> None:
    assert fetch_model(tmp_path / "model", revision=OLD) == OLD
    assert files(tmp_path / "model") == {"config.json": b"old", "vocab.json": b"{}"}


def test_what_an_earlier_run_brought_is_not_brought_again(hub: Hub, tmp_path: Path) -> None:
    fetch_model(tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").unlink()
    hub.asked.clear()
    fetch_model(tmp_path / "model")
    assert files(tmp_path / "model") == NEEDED
    assert hub.asked == ["tokenizer.json"]


def test_a_branch_that_moved_leaves_nothing_of_the_old_commit(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["acme/tiny"].branches["main"] = OLD
    fetch_model(tmp_path / "model")
    hub.repositories["acme/tiny"].branches["main"] = NEW
    assert fetch_model(tmp_path / "model") == NEW
    assert files(tmp_path / "model") == NEEDED


@pytest.mark.parametrize(("uri", "content"), [(ROWS, b"new\n"), (ROWS.replace("rows/", "rows@v1/"), b"old\n")])
def test_rows_arrive_of_the_revision_that_the_uri_names(hub: Hub, tmp_path: Path, uri: str, content: bytes) -> None:
    path = fetch.file(Source(uri=uri), tmp_path)
    assert path.name == "train.jsonl"
    assert path.read_bytes() == content


def test_a_star_stands_for_every_file_of_such_a_name(hub: Hub, tmp_path: Path) -> None:
    rows = {"data/train-1.jsonl": b"1\n", "data/train-0.jsonl": b"0\n", "data/test.jsonl": b"2\n", "train-2.jsonl": b""}
    hub.repositories["datasets/acme/rows"].commits[NEW] = rows
    found = fetch.each(Source(uri="hf://datasets/acme/rows@main/data/train-*.jsonl"))
    assert [fetch.file(each, tmp_path).read_bytes() for each in found] == [b"0\n", b"1\n"]


def test_a_star_that_stands_for_nothing_is_told(hub: Hub) -> None:
    error = refused(lambda: fetch.each(Source(uri="hf://datasets/acme/rows/data/dev-*.jsonl")))
    assert (error.outcome, error.message) == (
        Outcome.NOT_FOUND,
        "hf://datasets/acme/rows/data/dev-*.jsonl matches no file.",
    )


def test_rows_that_were_mended_on_the_hub_are_brought_again(hub: Hub, tmp_path: Path) -> None:
    fetch.file(Source(uri=ROWS), tmp_path)
    hub.repositories["datasets/acme/rows"].branches["main"] = OLD
    assert fetch.file(Source(uri=ROWS), tmp_path).read_bytes() == b"old\n"


def test_a_private_model_is_read_with_the_models_token_and_no_other(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["acme/tiny"].token = TOKEN
    monkeypatch.setenv("FINETUNE_DATASET_HF_TOKEN", TOKEN)
    error = refused(lambda: fetch_model(tmp_path / "model"))
    assert error.outcome == Outcome.NOT_FOUND
    assert error.message == (
        "hf://acme/tiny does not exist, or is private and no HF_TOKEN is given: name a Secret that holds one in the "
        "model's credentials (`finetune run` takes it from the environment)."
    )
    monkeypatch.setenv("FINETUNE_MODEL_HF_TOKEN", TOKEN)
    assert fetch_model(tmp_path / "model") == NEW


def test_private_rows_are_read_with_the_datasets_token_and_no_other(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["datasets/acme/rows"].token = TOKEN
    monkeypatch.setenv("FINETUNE_MODEL_HF_TOKEN", TOKEN)
    error = refused(lambda: fetch.file(Source(uri=ROWS), tmp_path))
    assert error.outcome == Outcome.NOT_FOUND
    assert "no HF_TOKEN is given: name a Secret that holds one in the dataset's credentials" in error.message
    monkeypatch.setenv("FINETUNE_DATASET_HF_TOKEN", TOKEN)
    assert fetch.file(Source(uri=ROWS), tmp_path).read_bytes() == b"new\n"


def test_a_laptops_plain_variables_do_for_both(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["acme/tiny"].token = TOKEN
    monkeypatch.delenv("FINETUNE_MODEL_HF_ENDPOINT")
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetch_model(tmp_path / "model") == NEW


def test_a_token_that_the_hub_refuses_points_at_the_secret(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["acme/tiny"].token = "hf_another"
    monkeypatch.setenv("FINETUNE_MODEL_HF_TOKEN", TOKEN)
    error = refused(lambda: fetch_model(tmp_path / "model"))
    assert error.outcome == Outcome.ACCESS_DENIED
    assert error.message == (
        "hf://acme/tiny was refused: the HF_TOKEN given for the model has no right to it: see the Secret in its "
        "credentials."
    )


def test_a_gated_model_says_to_accept_its_terms(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["acme/tiny"].gated = True
    error = refused(lambda: fetch_model(tmp_path / "model"))
    assert error.outcome == Outcome.ACCESS_DENIED
    assert error.message.startswith("hf://acme/tiny is gated: accept its terms on the hub; no HF_TOKEN is given: ")


def test_a_revision_that_is_not_there_names_the_field(hub: Hub, tmp_path: Path) -> None:
    error = refused(lambda: fetch_model(tmp_path / "model", revision="v9"))
    assert (error.outcome, error.message) == (
        Outcome.NOT_FOUND,
        "hf://acme/tiny has no such revision: see model.revision.",
    )
    uri = ROWS.replace("rows/", "rows@v9/")
    error = refused(lambda: fetch.file(Source(uri=uri), tmp_path))
    assert error.message == f"{uri} has no such revision: see what follows the @."


@pytest.mark.parametrize("uri", ["hf://datasets/acme/rows/none.jsonl", "hf://datasets/acme/none/train.jsonl"])
def test_rows_that_are_not_there_are_named(hub: Hub, tmp_path: Path, uri: str) -> None:
    error = refused(lambda: fetch.file(Source(uri=uri), tmp_path))
    assert error.outcome == Outcome.NOT_FOUND
    assert error.message.startswith(f"{uri} does not exist")


def test_a_name_that_no_repository_can_have_is_named(hub: Hub, tmp_path: Path) -> None:
    error = refused(lambda: fetch_model(tmp_path / "model", "acme/tiny--1"))
    assert (error.outcome, error.message) == (Outcome.NOT_FOUND, "hf://acme/tiny--1 does not exist.")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client tries five times by itself; here it doesn't pause in between."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("status", [429, 500])
def test_a_hub_in_trouble_is_worth_another_try(hub: Hub, tmp_path: Path, status: int) -> None:
    hub.fails = status
    for error in (
        refused(lambda: fetch_model(tmp_path / "model")),
        refused(lambda: fetch.file(Source(uri=ROWS), tmp_path)),
    ):
        assert error.outcome == Outcome.UNAVAILABLE
        assert "could not be reached" in error.message


@pytest.mark.usefixtures("impatient")
def test_a_hub_that_is_down_is_worth_another_try(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        for owner in ("MODEL", "DATASET"):
            monkeypatch.setenv(f"FINETUNE_{owner}_HF_ENDPOINT", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        for error in (
            refused(lambda: fetch_model(tmp_path / "model")),
            refused(lambda: fetch.file(Source(uri=ROWS), tmp_path)),
        ):
            assert error.outcome == Outcome.UNAVAILABLE
            assert "could not be reached" in error.message


@pytest.mark.usefixtures("impatient")
def test_the_signature_of_an_address_is_not_told(hub: Hub, tmp_path: Path) -> None:
    for repository in hub.repositories.values():
        repository.storage = f"{hub.endpoint}/broken/file?X-Amz-Signature={TOKEN}&X-Amz-Expires=3600"
    for error in (
        refused(lambda: fetch_model(tmp_path / "model")),
        refused(lambda: fetch.file(Source(uri=ROWS), tmp_path)),
    ):
        assert error.outcome == Outcome.UNAVAILABLE
        assert f"{hub.endpoint}/broken/file" in error.message
        assert "X-Amz" not in error.message
