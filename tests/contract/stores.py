"""Every place that artifacts are published to, for tests that hold for all of them alike.

Each is asked by the library that stages ask it by. For s3:// and gs:// there are servers, versitygw and
fake-gcs-server; for abfs:// there is `blobs`; a claim is a directory.
"""

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blobs
import httpx
import pytest
from control_plane import PATIENCE, binary
from finetune_trainer.data import bucket
from finetune_trainer.data.filesystems import pvc as claims
from finetune_trainer.data.places import hub as hub_place
from finetune_trainer.data.places import oci as oci_place
from hub_writes import WritableHub
from ports import free_port
from s3 import KEY, OWNERS, SECRET, Bucket

TOKEN = "hf_the-token"
USER, PASSWORD = "the-user", "the-password"
# bcrypt's, of that password.
HASHED = "$2b$05$abcdefghijklmnopqrstuu.znb4r.2SiHQeF.pCKpDSFBaTOrRZqq"


class Killed(BaseException):
    """The process ends here."""


class Dying:
    """What is asked to write, for a process that is killed as it begins to for this time."""

    def __init__(self, asked: Any, at: int, calls: tuple[str, ...]) -> None:
        self._asked, self._left, self._calls = asked, at, calls

    def __getattr__(self, name: str) -> Any:
        if name in self._calls:
            self._left -= 1
            if self._left < 0:
                raise Killed
        return getattr(self._asked, name)


@dataclass(frozen=True)
class Store:
    """Somewhere to publish to. `place`: a destination there that nobody has; `missing`: one that can't be.

    `wrong`: have its credentials wrong; nobody may see their `secrets`.
    """

    scheme: str
    place: str
    missing: str
    secrets: tuple[str, ...]
    wrong: Callable[[], None]
    environment: pytest.MonkeyPatch

    def __str__(self) -> str:
        return self.scheme

    @property
    def _filesystem(self) -> Any:
        return bucket.filesystem(self.place, "output", bucket.credentials("output"))

    # What is called to write there; how often for an artifact of five files, and for one that is there already.
    calls = ("put_file", "pipe_file", "rm_file")
    writes, idle = 7, 1
    # What lies there beside the artifact's files.
    beside = frozenset({"claim.json", "manifest.json"})

    def uri(self, place: str, revision: str) -> str:
        """A revision's address at a destination."""
        return f"{place}/{revision}"

    def claimed(self, uri: str) -> str:
        """What is claimed with a revision's address."""
        return uri

    def mounted(self, uri: str) -> Path | None:
        """Where a pod that reads it has it; None where it is fetched."""
        return None

    def dies(self, at: int) -> None:
        """The process is killed as it begins to write for this time."""
        make = bucket.filesystem
        self.environment.setattr(bucket, "filesystem", lambda *asked: Dying(make(*asked), at, self.calls))

    def names(self, uri: str) -> set[str]:
        """What lies below an address, without it."""
        root = uri.partition("://")[2]
        return {path.removeprefix(f"{root}/") for path in self._filesystem.find(root)}

    def get(self, uri: str) -> bytes:
        """What an object holds."""
        return bytes(self._filesystem.cat_file(uri.partition("://")[2]))

    def put(self, uri: str, content: bytes) -> None:
        """Write an object, whatever is there."""
        self._filesystem.pipe_file(uri.partition("://")[2], content)


@dataclass(frozen=True)
class ClaimStore(Store):
    """A claim that is mounted."""

    root: Path

    def mounted(self, uri: str) -> Path | None:
        """In a directory called like the claim."""
        return self.root / uri.removeprefix("pvc://")

    def names(self, uri: str) -> set[str]:
        """What lies below an address, without it."""
        found = self.root / uri.removeprefix("pvc://")
        return {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class HubStore(Store):
    """The hub in miniature, driven by huggingface_hub."""

    hub: WritableHub

    calls = ("create_repo", "preupload_lfs_files", "create_commit", "create_tag", "delete_tag")
    writes, idle = 10, 1

    def uri(self, place: str, revision: str) -> str:
        """A tag of the repository."""
        return f"{place}@{revision}"

    def claimed(self, uri: str) -> str:
        """All of the repository."""
        return uri.partition("@")[0]

    def dies(self, at: int) -> None:
        """The process is killed as it begins to write for this time."""
        make = hub_place._api
        self.environment.setattr(hub_place, "_api", lambda *asked: Dying(make(*asked), at, self.calls))

    def _files(self, uri: str) -> dict[str, bytes]:
        name, _, revision = uri.removeprefix("hf://").partition("@")
        repository = self.hub.repositories[name]
        return repository.commits[repository.branches[revision.partition("/")[0]]]

    def names(self, uri: str) -> set[str]:
        """What is in the commit, but for what the hub puts there."""
        return set(self._files(uri)) - {".gitattributes"}

    def get(self, uri: str) -> bytes:
        """What a file holds."""
        return self._files(uri)[uri.partition("@")[2].partition("/")[2]]

    def put(self, uri: str, content: bytes) -> None:
        """As nobody could: in the very commit."""
        self._files(uri)[uri.partition("@")[2].partition("/")[2]] = content


@dataclass(frozen=True)
class RegistryStore(Store):
    """CNCF's registry."""

    calls = ("put", "tag")
    writes, idle = 8, 0
    beside = frozenset({"manifest.json"})

    def uri(self, place: str, revision: str) -> str:
        """A tag."""
        return f"{place}:{revision}"

    def dies(self, at: int) -> None:
        """The process is killed as it begins to write for this time."""
        make = oci_place.Repository
        self.environment.setattr(oci_place, "Repository", lambda *asked: Dying(make(*asked), at, self.calls))

    def _tag(self, uri: str) -> oci_place.Tag:
        return oci_place.found(uri, "output", bucket.credentials("output"))

    def names(self, uri: str) -> set[str]:
        """The layers' files."""
        return set(self._tag(uri).layers())

    def get(self, uri: str) -> bytes:
        """What a file holds."""
        tag, _, name = uri.removeprefix("oci://").rpartition(":")[2].partition("/")
        return self._tag(f"{uri.removesuffix(f'{tag}/{name}')}{tag}").read(name)

    def put(self, uri: str, content: bytes) -> None:
        """As whoever may write there: another layer in the place of one."""
        revision, _, name = uri.rpartition(":")[2].partition("/")
        tag = self._tag(f"{uri.rpartition(':')[0]}:{revision}")
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        tag.repository.put(digest, content)
        for layer in tag.manifest["layers"]:
            if layer["annotations"]["org.cncf.model.filepath"] == name:
                layer.update(digest=digest, size=len(content))
        tag.repository.tag(tag.tag, json.dumps(tag.manifest).encode())


@contextmanager
def registry(root: Path) -> Iterator[str]:
    """A registry that one user may ask; its host and port."""
    port = free_port()
    (root / "htpasswd").write_text(f"{USER}:{HASHED}\n")
    (root / "config.yml").write_text(
        f"""version: 0.1
storage: {{filesystem: {{rootdirectory: {root}/blobs}}}}
http: {{addr: "127.0.0.1:{port}"}}
auth: {{htpasswd: {{realm: tests, path: {root}/htpasswd}}}}
"""
    )
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(
            [binary("registry"), "serve", str(root / "config.yml")], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        # The first request is repeated until the server listens.
        with httpx.Client(transport=httpx.HTTPTransport(retries=8), timeout=PATIENCE) as client:
            assert client.get(f"http://127.0.0.1:{port}/v2/").status_code == httpx.codes.UNAUTHORIZED
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


@contextmanager
def google(log: Path) -> Iterator[str]:
    """fake-gcs-server with the bucket models; its address. It lets everybody in."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    listens = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", f"127.0.0.1:{port}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [binary("fake-gcs-server"), "-backend", "memory", *listens], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        # The first request is repeated until the server listens.
        transport = httpx.HTTPTransport(retries=8)
        with httpx.Client(transport=transport, base_url=address, timeout=PATIENCE) as client:
            for name in ("models", "data"):
                client.post("/storage/v1/b", json={"name": name}).raise_for_status()
        yield address
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


def s3(found: Bucket, name: str) -> Store:
    """The bucket models of versitygw."""
    return Store(
        "s3",
        f"s3://models/{name}",
        "s3://no-such-bucket/recipes",
        (KEY, SECRET),
        lambda: found.grant("OUTPUT", AWS_SECRET_ACCESS_KEY="wrong"),
        found.environment,
    )


def gs(address: str, refusing: str, environment: pytest.MonkeyPatch, name: str) -> Store:
    """The bucket models of fake-gcs-server; another server refuses."""
    environment.setenv("NO_GCE_CHECK", "true")
    for owner in OWNERS:
        environment.setenv(f"FINETUNE_{owner}_STORAGE_EMULATOR_HOST", address)
    return Store(
        "gs",
        f"gs://models/{name}",
        "gs://no-such-bucket/recipes",
        (),
        lambda: environment.setenv("FINETUNE_OUTPUT_STORAGE_EMULATOR_HOST", refusing),
        environment,
    )


def abfs(found: blobs.Blobs, environment: pytest.MonkeyPatch, name: str) -> Store:
    """The container models of the Blob service in miniature."""
    key = "AZURE_STORAGE_CONNECTION_STRING"
    for owner in OWNERS:
        environment.setenv(f"FINETUNE_{owner}_{key}", found.connection)
    wrong = found.connection.replace(blobs.SIGNATURE, "wrong")
    return Store(
        "abfs",
        f"abfs://models/{name}",
        "abfs://no-such-container/recipes",
        (blobs.SIGNATURE,),
        lambda: environment.setenv(f"FINETUNE_OUTPUT_{key}", wrong),
        environment,
    )


def hf(hub: WritableHub, environment: pytest.MonkeyPatch, name: str) -> HubStore:
    """Repositories of acme."""
    environment.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    environment.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/none")
    environment.delenv("HF_TOKEN", raising=False)
    for owner in OWNERS:
        environment.setenv(f"FINETUNE_{owner}_HF_ENDPOINT", hub.endpoint)
        environment.setenv(f"FINETUNE_{owner}_HF_TOKEN", TOKEN)
    # Its names have 96 characters at most.
    return HubStore(
        "hf",
        f"hf://acme/{name[-60:]}",
        "",
        (TOKEN,),
        lambda: environment.setenv("FINETUNE_OUTPUT_HF_TOKEN", "hf_wrong"),
        environment,
        hub,
    )


def oci(address: str, environment: pytest.MonkeyPatch, name: str) -> RegistryStore:
    """Repositories of the registry."""
    for owner in OWNERS:
        environment.setenv(f"FINETUNE_{owner}_REGISTRY_USERNAME", USER)
        environment.setenv(f"FINETUNE_{owner}_REGISTRY_PASSWORD", PASSWORD)
    return RegistryStore(
        "oci",
        f"oci://{address}/models/{name}",
        "",
        (PASSWORD, USER),
        lambda: environment.setenv("FINETUNE_OUTPUT_REGISTRY_PASSWORD", "wrong"),
        environment,
    )


def pvc(root: Path, environment: pytest.MonkeyPatch, name: str) -> ClaimStore:
    """The claim models; in the place of wrong credentials it is on a disk that nobody may write to."""
    (root / "models").mkdir()
    environment.setattr(claims, "root", root)

    def wrong() -> None:
        (root / "models").rmdir()
        (root / "models").symlink_to("/sys/kernel")

    return ClaimStore("pvc", f"pvc://models/{name}", "pvc://no-such-claim/recipes", (), wrong, environment, root)
