"""A real S3 server, versitygw over a directory, and what a stage's pod would know of it. Used by the S3 tests."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import botocore.session
import pytest
from botocore.client import BaseClient, Config
from control_plane import PATIENCE, binary
from finetune_trainer.contract.outcome import StageError
from ports import free_port

KEY, SECRET = "the-access-key", "the-secret-key"
# Whose credentials there are.
OWNERS = ("MODEL", "DATASET", "OUTPUT", "WORKSPACE", "ORIGIN")


@dataclass
class Bucket:
    """The server, and the environment that a stage's pod would have."""

    endpoint: str
    client: BaseClient
    environment: pytest.MonkeyPatch

    def put(self, path: str, content: bytes) -> None:
        """Write BUCKET/KEY."""
        bucket, _, key = path.partition("/")
        self.client.put_object(Bucket=bucket, Key=key, Body=content)

    def get(self, path: str) -> bytes:
        """Read BUCKET/KEY."""
        bucket, _, key = path.partition("/")
        return bytes(self.client.get_object(Bucket=bucket, Key=key)["Body"].read())

    def names(self, path: str) -> set[str]:
        """The keys behind BUCKET/PREFIX, without the prefix."""
        bucket, _, prefix = path.partition("/")
        found = self.client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents", [])
        return {each["Key"].removeprefix(f"{prefix}/") for each in found}

    def grant(self, owner: str, **secrets: str) -> None:
        """The variables that the operator takes from the Secret."""
        for name, value in secrets.items():
            self.environment.setenv(f"FINETUNE_{owner}_{name}", value)


@contextmanager
def serving(root: Path) -> Iterator[tuple[str, BaseClient]]:
    """versitygw with the buckets models and data; its address, and a client."""
    port = free_port()
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
        client.list_buckets()
        yield f"http://127.0.0.1:{port}", client
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


def refused(what: Callable[[], object]) -> StageError:
    """How it fails; the keys are nowhere in it."""
    with pytest.raises(StageError) as found:
        what()
    assert SECRET not in found.value.message
    assert KEY not in found.value.message
    return found.value
