"""prepare's downloads against a real S3 server: what arrives, what is asked for again, and what each refusal says."""

import errno
import socket
from pathlib import Path
from typing import Any

import pytest
from finetune_trainer.contract.config import ModelConfig, Source
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.contract.results import FetchResult
from finetune_trainer.data import fetch
from finetune_trainer.stages import fetch as fetch_stage
from s3 import Bucket, refused

MODEL = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"[]", "chat_template.jinja": b"{{}}"}
UNWANTED = ("pytorch_model.bin", "modeling_tiny.py", "README.md", "onnx/model.onnx", "original/model.safetensors")
ROWS = "s3://data/train.jsonl"


@pytest.fixture(autouse=True)
def filled(bucket: Bucket) -> None:
    """A model and rows in the buckets."""
    for name, content in MODEL.items():
        bucket.put(f"models/tiny/{name}", content)
    for name in UNWANTED:
        bucket.put(f"models/tiny/{name}", b"no")
    bucket.put("models/tiny-large/config.json", b"another model")
    bucket.put("data/train.jsonl", b'{"text": "a"}\n')


def fetch_model(target: Path, uri: str = "s3://models/tiny", **options: Any) -> None:
    assert fetch.model(ModelConfig(source=Source(uri=uri), **options), target) is None


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_model_arrives_without_what_could_run_by_itself(bucket: Bucket, tmp_path: Path) -> None:
    fetch_model(tmp_path / "model", "s3://models/tiny/")
    assert files(tmp_path / "model") == MODEL


def test_a_models_code_comes_only_when_it_is_trusted(bucket: Bucket, tmp_path: Path) -> None:
    fetch_model(tmp_path / "model", trust_remote_code=True)
    assert files(tmp_path / "model").keys() == MODEL.keys() | {"modeling_tiny.py"}


def test_what_an_earlier_run_brought_is_not_brought_again_and_what_it_left_half_is(
    bucket: Bucket, tmp_path: Path
) -> None:
    target = tmp_path / "model"
    fetch_model(target)
    (target / "config.json").unlink()
    (target / "model.safetensors").write_bytes(b"half")
    kept = (target / "tokenizer.json").stat()
    fetch_model(target)
    assert files(target) == MODEL
    assert (target / "tokenizer.json").stat().st_mtime_ns == kept.st_mtime_ns


def test_a_model_that_was_mended_in_the_bucket_is_brought_again(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("models/mended/config.json", b"bad")
    fetch_model(tmp_path / "model", "s3://models/mended")
    bucket.put("models/mended/config.json", b"good")
    fetch_model(tmp_path / "model", "s3://models/mended")
    assert files(tmp_path / "model") == {"config.json": b"good"}


def test_a_model_for_many_is_brought_once_and_beside_it_what_became_of_it(bucket: Bucket, tmp_path: Path) -> None:
    shared = {"cache": Source(uri="pvc://shared/models", path=tmp_path / "shared")}
    bucket.put("models/shared/config.json", b"first")
    fetch_model(tmp_path / "a", "s3://models/shared", **shared)
    fetch_model(tmp_path / "b", "s3://models/shared", **shared)
    assert (tmp_path / "a").readlink() == (tmp_path / "b").readlink()
    bucket.put("models/shared/config.json", b"mended")
    fetch_model(tmp_path / "c", "s3://models/shared", **shared)
    assert files(tmp_path / "c") == {"config.json": b"mended"}
    assert files(tmp_path / "a") == {"config.json": b"first"}


def test_a_file_of_rows_arrives_under_its_own_name(bucket: Bucket, tmp_path: Path) -> None:
    path = fetch.file(Source(uri=ROWS), tmp_path)
    assert path.name == "train.jsonl"
    assert path.read_bytes() == b'{"text": "a"}\n'
    assert len(files(tmp_path)) == 1


def test_a_star_stands_for_every_file_of_such_a_name(bucket: Bucket, tmp_path: Path) -> None:
    for name in ("many/train-1.jsonl", "many/train-0.jsonl", "many/test.jsonl", "many/train-2/a.jsonl"):
        bucket.put(f"data/{name}", name.encode())
    found = fetch.each(Source(uri="s3://data/many/train-*.jsonl"))
    contents = [fetch.file(each, tmp_path).read_bytes() for each in found]
    assert contents == [b"many/train-0.jsonl", b"many/train-1.jsonl"]


def test_two_files_of_one_name_stay_apart(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("data/other/train.jsonl", b'{"text": "b"}\n')
    paths = [fetch.file(Source(uri=uri), tmp_path) for uri in (ROWS, "s3://data/other/train.jsonl")]
    assert [path.read_bytes() for path in paths] == [b'{"text": "a"}\n', b'{"text": "b"}\n']


def test_rows_that_were_mended_in_the_bucket_are_brought_again(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("data/mended.jsonl", b"bad")
    fetch.file(Source(uri="s3://data/mended.jsonl"), tmp_path)
    bucket.put("data/mended.jsonl", b"ok!")
    assert fetch.file(Source(uri="s3://data/mended.jsonl"), tmp_path).read_bytes() == b"ok!"


def test_the_datasets_credentials_are_not_the_models(bucket: Bucket, tmp_path: Path) -> None:
    bucket.grant("MODEL", AWS_SECRET_ACCESS_KEY="wrong")
    fetch.file(Source(uri=ROWS), tmp_path)
    assert refused(lambda: fetch_model(tmp_path / "model")).outcome == Outcome.ACCESS_DENIED


@pytest.mark.parametrize("wrong", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_keys_are_refused_and_the_secret_is_pointed_at(bucket: Bucket, tmp_path: Path, wrong: str) -> None:
    bucket.grant("MODEL", **{wrong: "wrong"})
    error = refused(lambda: fetch_model(tmp_path / "model"))
    assert error.outcome == Outcome.ACCESS_DENIED
    assert error.message == (
        "s3://models/tiny was refused: the AWS_ACCESS_KEY_ID given for the model has no right to it: see the Secret in "
        "its credentials."
    )
    bucket.grant("DATASET", **{wrong: "wrong"})
    assert refused(lambda: fetch.file(Source(uri=ROWS), tmp_path)).outcome == Outcome.ACCESS_DENIED


def test_without_keys_a_private_bucket_says_which_are_missing(bucket: Bucket, tmp_path: Path) -> None:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        bucket.environment.delenv(f"FINETUNE_DATASET_{key}")
    error = refused(lambda: fetch.file(Source(uri=ROWS), tmp_path))
    assert error.outcome == Outcome.ACCESS_DENIED
    assert error.message.startswith(f"{ROWS} was refused: no AWS_ACCESS_KEY_ID is given: name a Secret")


@pytest.mark.parametrize("uri", ["s3://data/none.jsonl", "s3://no-such-bucket/train.jsonl", "s3://No_Bucket/a.jsonl"])
def test_rows_that_are_not_there_are_named(bucket: Bucket, tmp_path: Path, uri: str) -> None:
    error = refused(lambda: fetch.file(Source(uri=uri), tmp_path))
    assert error.outcome == Outcome.NOT_FOUND
    assert error.message == f"{uri} does not exist."
    assert files(tmp_path) == {}


@pytest.mark.parametrize("uri", ["s3://models/none", "s3://no-such-bucket/tiny"])
def test_a_model_that_is_not_there_is_named(bucket: Bucket, tmp_path: Path, uri: str) -> None:
    error = refused(lambda: fetch_model(tmp_path / "model", uri))
    assert error.outcome == Outcome.NOT_FOUND
    assert error.message == f"{uri} does not exist."


def test_a_prefix_without_a_model_says_what_was_looked_for(bucket: Bucket, tmp_path: Path) -> None:
    error = refused(lambda: fetch_model(tmp_path / "model", "s3://models/tiny/onnx"))
    assert error.outcome == Outcome.NOT_FOUND
    assert error.message.startswith("s3://models/tiny/onnx holds no files of a model (*.safetensors, *.json, ")


def test_a_server_that_is_down_is_worth_another_try(bucket: Bucket, tmp_path: Path) -> None:
    bucket.environment.setenv("TRANSFER_TRIES", "1")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        bucket.grant("DATASET", AWS_ENDPOINT_URL=f"http://127.0.0.1:{nobody.getsockname()[1]}")
        error = refused(lambda: fetch.file(Source(uri=ROWS), tmp_path))
    assert error.outcome == Outcome.UNAVAILABLE
    assert error.outcome.exit.retry
    assert error.message.startswith(f"{ROWS} could not be reached: Could not connect to the endpoint URL")
    assert files(tmp_path) == {}


def test_an_endpoint_that_is_no_url_is_told_by_its_name(bucket: Bucket, tmp_path: Path) -> None:
    bucket.grant("DATASET", AWS_ENDPOINT_URL="minio.storage:9000")
    error = refused(lambda: fetch.file(Source(uri=ROWS), tmp_path))
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message == (
        "AWS_ENDPOINT_URL in the dataset's credentials is no URL: it has to begin with http:// or https://."
    )


def engines(directory: Path, uri: str = "s3://models/tiny") -> FetchResult:
    """What the container of an Engine's pod does."""
    return fetch_stage.fetch(ModelConfig(source=Source(uri=uri)), directory)


def test_an_engines_model_is_fetched_once_whether_the_bucket_answers_or_not(bucket: Bucket, tmp_path: Path) -> None:
    engines(tmp_path / "files")
    assert files(tmp_path / "files") == MODEL
    bucket.grant("MODEL", AWS_ENDPOINT_URL="http://127.0.0.1:1")
    assert engines(tmp_path / "files") == FetchResult()


def test_a_fetch_that_was_killed_before_its_end_goes_on(bucket: Bucket, tmp_path: Path) -> None:
    engines(tmp_path / "files")
    (tmp_path / "files.fetched.json").unlink()
    (tmp_path / "files/config.json").unlink()
    engines(tmp_path / "files")
    assert files(tmp_path / "files") == MODEL


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("config.json", "can't be served: it has no config.json."),
        ("model.safetensors", "can't be served: it has no weights in safetensors"),
    ],
)
def test_what_is_no_model_is_told_before_an_engine_starts(
    bucket: Bucket, tmp_path: Path, missing: str, sentence: str
) -> None:
    for name in MODEL.keys() - {missing}:
        bucket.put(f"models/without-{missing}/{name}", MODEL[name])
    error = refused(lambda: engines(tmp_path / "files", f"s3://models/without-{missing}"))
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message.startswith(f"s3://models/without-{missing} {sentence}")


def test_an_adapter_is_no_model_to_serve(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("models/adapter/adapter_config.json", b"{}")
    assert (
        "name the model that it was trained on"
        in refused(lambda: engines(tmp_path / "files", "s3://models/adapter")).message
    )


def test_a_pods_volume_that_is_full_is_told(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch, "model", full)
    error = refused(lambda: engines(tmp_path / "files"))
    assert error.outcome == Outcome.WORKSPACE_FULL
    assert error.message == "The pod's volume is too small for s3://models/tiny: raise storage.size of the Engine."
