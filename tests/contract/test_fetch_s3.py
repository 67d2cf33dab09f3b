"""prepare's downloads against a real S3 server: what arrives, what is asked for again, and what each refusal says."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.client import BaseClient, Config
from control_plane import binary, free_port
from finetune_trainer.contract.config import ModelConfig, Source
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data import fetch

KEY, SECRET = "the-access-key", "the-secret-key"
MODEL = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"[]", "chat_template.jinja": b"{{}}"}
UNWANTED = ("pytorch_model.bin", "modeling_tiny.py", "README.md", "onnx/model.onnx", "original/model.safetensors")
ROWS = "s3://data/train.jsonl"


@dataclass
class Bucket:
    """The server, and the environment that a stage's pod would have."""

    endpoint: str
    client: BaseClient
    environment: pytest.MonkeyPatch

    def put(self, path: str, content: bytes) -> None:
        bucket, _, key = path.partition("/")
        self.client.put_object(Bucket=bucket, Key=key, Body=content)

    def grant(self, owner: str, **secrets: str) -> None:
        """The variables that the operator takes from the Secret."""
        for name, value in secrets.items():
            self.environment.setenv(f"FINETUNE_{owner}_{name}", value)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, BaseClient]]:
    """versitygw over a directory, with a model and rows in it."""
    root, port = tmp_path_factory.mktemp("s3"), free_port()
    for bucket in ("models", "data"):
        (root / bucket).mkdir()
    environment = {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET, "PATH": os.environ["PATH"]}
    with (root.parent / "s3.log").open("wb") as log:
        process = subprocess.Popen(
            [binary("versitygw"), "--port", f"127.0.0.1:{port}", "posix", str(root)],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    # The first request is repeated until the server listens.
    client = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=Config(retries={"mode": "standard", "total_max_attempts": 8}),
    )
    try:
        for name, content in MODEL.items():
            client.put_object(Bucket="models", Key=f"tiny/{name}", Body=content)
        for name in UNWANTED:
            client.put_object(Bucket="models", Key=f"tiny/{name}", Body=b"no")
        client.put_object(Bucket="models", Key="tiny-large/config.json", Body=b"another model")
        client.put_object(Bucket="data", Key="train.jsonl", Body=b'{"text": "a"}\n')
        yield f"http://127.0.0.1:{port}", client
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def bucket(server: tuple[str, BaseClient], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
    """The server, with the right credentials given for model and dataset."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "FINETUNE_"))]:
        monkeypatch.delenv(name)
    # Nor those of whoever runs the tests, nor a cloud machine's.
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    found = Bucket(*server, monkeypatch)
    for owner in ("MODEL", "DATASET"):
        found.grant(owner, AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET, AWS_ENDPOINT_URL=found.endpoint)
    return found


def fetch_model(target: Path, uri: str = "s3://models/tiny", **options: Any) -> None:
    assert fetch.model(ModelConfig(source=Source(uri=uri), **options), target) is None


def refused(what: Callable[[], object]) -> StageError:
    with pytest.raises(StageError) as found:
        what()
    assert SECRET not in found.value.message
    assert KEY not in found.value.message
    return found.value


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
