"""An OCI registry's repository: blobs and manifests, asked as the distribution specification has it.

Used by `places.oci`. oras's client for Python reads each file into memory, waits for two minutes when a password is
wrong, and tells no status; what is needed here are five requests. Each is made again while it fails of what may pass
(`patience`), and can be: a blob that was sent in part is begun anew, since its upload may not be gone on with.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data import patience
from finetune_trainer.data.patience import persistent

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
# Registries on this machine, which Docker asks without TLS, too.
_LOCAL = re.compile(r"(localhost|127\.0\.0\.1)(:\d+)?")
_PIECE = 2**20


class Repository:
    """`name`: REGISTRY/REPO. Raises StageError where the secrets say nothing that can be understood."""

    def __init__(self, name: str, secrets: Mapping[str, str]) -> None:
        registry, _, repository = name.partition("/")
        scheme = "http" if _LOCAL.fullmatch(registry) or _plain(secrets) else "https"
        self._base = f"{scheme}://{registry}/v2/{repository}"
        user, password = secrets.get("REGISTRY_USERNAME"), secrets.get("REGISTRY_PASSWORD")
        self._basic = httpx.BasicAuth(user, password) if user and password else None
        self._repository, self._token = repository, ""
        self._client = httpx.Client(timeout=patience.given().timeout, follow_redirects=True)

    @persistent
    def manifest(self, reference: str) -> dict[str, Any] | None:
        """What a tag or a digest stands for; None where there is no such one."""
        answer = self._ask("GET", f"{self._base}/manifests/{reference}", headers={"Accept": MANIFEST_TYPE})
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    @persistent
    def tag(self, tag: str, manifest: bytes) -> None:
        """Have a tag stand for a manifest."""
        url = f"{self._base}/manifests/{tag}"
        self._ask("PUT", url, content=manifest, headers={"Content-Type": MANIFEST_TYPE}).raise_for_status()

    @persistent
    def put(self, digest: str, content: bytes | Path) -> None:
        """Have a blob there."""
        if self._ask("HEAD", f"{self._base}/blobs/{digest}").is_success:
            return
        began = self._ask("POST", f"{self._base}/blobs/uploads/").raise_for_status()
        url = began.url.join(began.headers["Location"]).copy_merge_params({"digest": digest})
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        # It was let in by the request before.
        pieces = _pieces(content) if isinstance(content, Path) else content
        self._send("PUT", url, content=pieces, headers=headers).raise_for_status()

    @persistent
    def read(self, digest: str) -> bytes:
        """What a blob holds."""
        return self._ask("GET", f"{self._base}/blobs/{digest}").raise_for_status().content

    @persistent
    def get(self, digest: str, local: Path) -> None:
        """Bring a blob."""
        with self._streaming(f"{self._base}/blobs/{digest}") as answer, local.open("wb") as file:
            for piece in answer.raise_for_status().iter_bytes(_PIECE):
                file.write(piece)

    def _ask(self, method: str, url: str, **more: Any) -> httpx.Response:
        answer = self._send(method, url, **more)
        return self._send(method, url, **more) if self._let_in(answer) else answer

    @contextmanager
    def _streaming(self, url: str) -> Iterator[httpx.Response]:
        # A request that has no body to bring tells whether another token is needed.
        self._ask("HEAD", url).raise_for_status()
        with self._client.stream("GET", url, **self._credentials()) as answer:
            yield answer

    def _send(
        self, method: str, url: str | httpx.URL, headers: Mapping[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        given = self._credentials()
        return self._client.request(
            method, url, auth=given["auth"], headers={**given["headers"], **(headers or {})}, **more
        )

    def _credentials(self) -> dict[str, Any]:
        if self._token:
            return {"auth": None, "headers": {"Authorization": f"Bearer {self._token}"}}
        return {"auth": self._basic, "headers": {}}

    def _let_in(self, answer: httpx.Response) -> bool:
        """Whether a refusal named a place that has given a token."""
        challenge = answer.headers.get("WWW-Authenticate", "")
        if answer.status_code != httpx.codes.UNAUTHORIZED or not challenge.lower().startswith("bearer "):
            return False
        asked = dict(_CHALLENGE.findall(challenge))
        scope = {"service": asked.get("service", ""), "scope": f"repository:{self._repository}:pull,push"}
        told = self._client.get(asked["realm"], params=scope, auth=self._basic).raise_for_status().json()
        self._token = told.get("token") or told["access_token"]
        return True


def _plain(secrets: Mapping[str, str]) -> bool:
    """Whether the registry speaks without TLS, as some within a cluster do."""
    said = secrets.get("REGISTRY_PLAIN_HTTP", "false").strip().lower()
    if said not in ("true", "false"):
        raise StageError(
            Outcome.CONFIG_INVALID, "REGISTRY_PLAIN_HTTP has to be true or false: correct it in the Secret."
        )
    return said == "true"


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
