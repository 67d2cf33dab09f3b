"""publish to each kind of place, and `finetune fetch`, which reads what it wrote: whole, or not at all."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from finetune_cli.errors import UserError
from finetune_cli.fetch import fetch_artifact
from finetune_trainer import __main__ as program
from finetune_trainer.contract.config import (
    PROVENANCE,
    DatasetConfig,
    ModelConfig,
    Origin,
    RunConfig,
    Source,
    Workspace,
)
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.contract.results import ArtifactInfo, PublishResult, TrainResult, Usage
from finetune_trainer.data import digests
from finetune_trainer.data import fetch as models
from finetune_trainer.server import Reporter
from finetune_trainer.stages import publish as stage
from rich.console import Console
from s3 import refused
from stores import Killed, Store

FILES = {"adapter_model.safetensors": b"weights", "adapter_config.json": b"{}", "merged/model.safetensors": b"all"}
BESIDE = {"artifact.json", PROVENANCE}
OURS, ANOTHERS = "uid-1", "uid-2"


@pytest.fixture
def place(store: Store) -> str:
    """A destination of the test's own."""
    return store.place


def trained(root: Path, files: dict[str, bytes] = FILES) -> Workspace:
    workspace = Workspace(root)
    for name, content in files.items():
        path = workspace.artifact / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    artifact = ArtifactInfo(digest=digests.digest(workspace.artifact), bytes=sum(map(len, files.values())))
    result = TrainResult(artifact=artifact, usage=Usage(trained_tokens=1, seconds=1), steps=1)
    (workspace.artifact / PROVENANCE).write_text("{}")
    workspace.trained.write_text(result.model_dump_json(by_alias=True))
    return workspace


def publish(
    workspace: Workspace,
    place: str,
    owner: str = OURS,
    name: str = "recipes",
    revision: str = "0a1b2c3d",
    signed: bool = False,
) -> PublishResult:
    asked = stage.PublishOptions(sign=signed)
    return stage.publish(config(name, revision), workspace, place, owner, Reporter("publish"), asked)


def config(name: str = "recipes", revision: str = "0a1b2c3d") -> RunConfig:
    return RunConfig(
        name=name,
        revision=revision,
        model=ModelConfig(source=Source(uri="hf://org/model")),
        dataset=DatasetConfig(train=Source(uri="s3://data/train.jsonl")),
    )


def fetch(uri: str, to: Path | None, key: Path | None = None) -> str:
    console = Console(file=io.StringIO())
    fetch_artifact(uri, to, None, console, key)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def unfetched(uri: str, to: Path, key: Path | None = None) -> str:
    with pytest.raises(UserError) as error:
        fetch(uri, to, key)
    assert not to.exists()
    return error.value.message


def test_what_was_published_can_be_fetched(store: Store, place: str, tmp_path: Path) -> None:
    workspace = trained(tmp_path / "workspace")
    found = publish(workspace, place)
    assert found.uri == store.uri(place, "0a1b2c3d")
    assert store.names(found.uri) == {*FILES, *BESIDE} | store.beside
    there = b"".join(store.get(f"{found.uri}/{name}") for name in store.names(found.uri))
    assert [word for word in store.secrets if word.encode() in there] == []
    said = fetch(found.uri, tmp_path / "fetched")
    assert found.artifact.digest in said
    assert digests.digest(tmp_path / "fetched") == found.artifact.digest
    assert (tmp_path / "fetched/artifact.json").read_bytes() == workspace.trained.read_bytes()


def test_an_adapter_is_told_with_its_base_model_and_what_that_goes_back_to(
    store: Store, place: str, tmp_path: Path
) -> None:
    workspace = trained(tmp_path / "workspace", {name: FILES[name] for name in FILES if "/" not in name})
    fetched = fetch(publish(workspace, place).uri, tmp_path / "fetched")
    assert fetched.endswith("\nIts base model is org/model.\n")
    lineage = ("ftj://sft/0a1b2c3d", "hf://org/model@abc123")
    origin = Origin(digest="sha256:0", files=tmp_path, base=Source(uri="hf://org/model"), lineage=lineage)
    continued = ModelConfig(source=Source(uri=lineage[0]), origin=origin)
    found = stage.publish(
        config(revision="9f8e7d6c").model_copy(update={"model": continued}), workspace, place, OURS, Reporter("publish")
    )
    assert found.lineage == lineage
    assert fetch(found.uri, tmp_path / "continued").endswith(
        "\nIts base model, ftj://sft/0a1b2c3d (from hf://org/model@abc123), is "
        "not published with it: set output.merge, and the whole model is published, too.\n"
    )


def test_what_is_fetched_is_called_like_its_revision(
    store: Store, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = publish(trained(tmp_path / "workspace"), place).uri
    monkeypatch.chdir(tmp_path)
    fetch(uri, None)
    assert digests.digest(tmp_path / "0a1b2c3d") == digests.digest(tmp_path / "workspace/artifact")


def test_killed_between_any_two_writes_it_is_never_taken_for_whole_and_begins_again(
    store: Store, place: str, tmp_path: Path
) -> None:
    workspace = trained(tmp_path / "workspace")
    for at in range(store.writes):
        there = f"{place}-{at}"
        with store.environment.context() as killed:
            replace(store, environment=killed).dies(at)
            with pytest.raises(Killed):
                publish(workspace, there)
        half = unfetched(store.uri(there, "0a1b2c3d"), tmp_path / "half")
        assert "has no manifest.json: nothing was published there" in half or "does not exist, or is private" in half
        fetch(publish(workspace, there).uri, tmp_path / f"whole-{at}")
    store.dies(store.writes)
    publish(workspace, f"{place}-{store.writes}")


def test_the_same_is_not_published_twice(store: Store, place: str, tmp_path: Path) -> None:
    workspace = trained(tmp_path / "workspace")
    first = publish(workspace, place)
    # The claim alone is tried.
    store.dies(store.idle)
    assert publish(workspace, place) == first


def test_a_revision_that_was_trained_anew_takes_the_place_of_its_first_artifact(
    store: Store, place: str, tmp_path: Path
) -> None:
    publish(trained(tmp_path / "first"), place)
    found = publish(trained(tmp_path / "second", {"adapter_model.safetensors": b"others"}), place)
    names = {"adapter_model.safetensors", *BESIDE} | store.beside
    assert store.names(found.uri) == names
    fetch(found.uri, tmp_path / "fetched")
    assert (tmp_path / "fetched/adapter_model.safetensors").read_bytes() == b"others"


def test_what_another_finetunejob_published_is_never_written_over(store: Store, place: str, tmp_path: Path) -> None:
    first = publish(trained(tmp_path / "first"), place, name="dishes")
    another = trained(tmp_path / "second", {"adapter_model.safetensors": b"others"})
    error = refused(lambda: publish(another, place, ANOTHERS))
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message == (
        f"{store.claimed(first.uri)} belongs to another FineTuneJob, dishes: choose another output.destination, or "
        "delete what lies there."
    )
    fetch(first.uri, tmp_path / "fetched")
    assert (tmp_path / "fetched/adapter_model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize("store", ["s3", "gs", "abfs"], indirect=True)
def test_a_place_that_does_not_exist_is_told(store: Store, tmp_path: Path) -> None:
    error = refused(lambda: publish(trained(tmp_path / "workspace"), store.missing))
    assert (error.outcome, error.message) == (Outcome.NOT_FOUND, f"{store.missing} does not exist.")


def test_a_place_that_refuses_is_told_and_no_secret_is(
    store: Store,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    store.wrong()
    code, termination = ends(tmp_path, place, monkeypatch)
    assert code == Outcome.ACCESS_DENIED.exit.code
    message = json.loads(termination)["message"]
    assert message.startswith(place)
    assert " was refused" in message
    told = "".join((termination, caplog.text, *capfd.readouterr()))
    assert [word for word in (*store.secrets, "wrong") if word in told] == []


@pytest.mark.parametrize("store", ["s3", "hf"], indirect=True)
def test_a_password_in_an_endpoint_is_not_told(
    store: Store, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ENDPOINT_URL", "HF_ENDPOINT"):
        monkeypatch.setenv(f"FINETUNE_OUTPUT_{name}", "http://anna:the-canary@127.0.0.1:1")
    monkeypatch.setenv("TRANSFER_TRIES", "1")
    code, termination = ends(tmp_path, place, monkeypatch)
    assert code == Outcome.UNAVAILABLE.exit.code
    assert json.loads(termination)["message"].startswith(f"{place} could not be reached: ")
    assert "the-canary" not in "".join((termination, *capfd.readouterr()))


def ends(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int | str | None, str]:
    """The program's exit code and its last word."""
    trained(tmp_path / "workspace")
    (tmp_path / "run.json").write_text(config().model_dump_json(by_alias=True))
    options = {"config": "run.json", "workspace": "workspace", "termination-log": "termination"}
    paths = [part for name, path in options.items() for part in (f"--{name}", str(tmp_path / path))]
    monkeypatch.setattr(
        "sys.argv",
        ["finetune_trainer", "publish", "--destination", place, "--owner", OURS, "--status-port", "0", *paths],
    )
    with pytest.raises(SystemExit) as ending:
        program.main()
    return ending.value.code, (tmp_path / "termination").read_text()


def test_a_file_that_is_not_what_was_published_is_refused(store: Store, place: str, tmp_path: Path) -> None:
    uri = publish(trained(tmp_path / "workspace"), place).uri
    store.put(f"{uri}/adapter_config.json", b"[]")
    said = unfetched(uri, tmp_path / "fetched")
    assert said == f"{uri}/adapter_config.json is not what was published: its digest differs."


def test_a_model_that_was_published_is_started_from_verified(store: Store, place: str, tmp_path: Path) -> None:
    files = {"config.json": b"{}", "model.safetensors": b"weights"}
    uri = publish(trained(tmp_path / "workspace", files), place).uri
    address, _, tag = uri.partition("@")
    model = ModelConfig(source=Source(uri=address, path=store.mounted(uri)), revision=tag or None)
    read = store.mounted(uri) or tmp_path / "model"
    models.model(model, tmp_path / "model")
    assert {name: (read / name).read_bytes() for name in files} == files
    store.put(f"{uri}/model.safetensors", b"poisoned")
    error = refused(lambda: models.model(model, tmp_path / "another"))
    assert error.outcome == Outcome.DATA_INVALID
    assert error.message.endswith("/model.safetensors is not what was published: its digest differs.")


def test_a_manifest_can_name_no_file_outside_of_the_artifact(store: Store, place: str, tmp_path: Path) -> None:
    uri = publish(trained(tmp_path / "workspace"), place).uri
    manifest = f"{uri}/manifest.json"
    store.put(manifest, store.get(manifest).replace(b"adapter_config.json", b"../../outside"))
    said = unfetched(uri, tmp_path / "fetched")
    assert said == f"{uri} names a file outside of the artifact: ../../outside."
    store.put(manifest, json.dumps({"files": []}).encode())
    assert unfetched(uri, tmp_path / "fetched") == f"{uri}/manifest.json is no manifest of an artifact."
