"""Azure's Blob service in miniature: what adlfs asks of it to list, read, write and delete, over loopback.

Microsoft's own emulator is 450 npm packages of 360 MB, and asks for a newer Node than most machines have.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import md5
from threading import Lock
from urllib.parse import parse_qs, unquote, urlsplit

from http_server import Handler, answering

ACCOUNT, SIGNATURE = "account", "the-signature"
Response = tuple[int, dict[str, str], bytes]


@dataclass
class Blobs:
    """Containers of blobs. Whoever signs with another signature is refused."""

    containers: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"models": {}, "data": {}})
    endpoint: str = ""
    lock: Lock = field(default_factory=Lock)

    @property
    def connection(self) -> str:
        """The connection string."""
        return f"BlobEndpoint={self.endpoint}/{ACCOUNT};SharedAccessSignature=sv=2024-11-04&sig={SIGNATURE}"

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Response:
        """Status, headers and body."""
        address = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        container, _, name = unquote(address.path).removeprefix(f"/{ACCOUNT}/").partition("/")
        if query.get("sig") != SIGNATURE:
            return _error(403, "AuthenticationFailed")
        if container not in self.containers:
            return _error(404, "ContainerNotFound")
        blobs = self.containers[container]
        if not name:
            return _listing(container, query, blobs) if method == "GET" else (200, {}, b"")
        with self.lock:
            if method == "PUT":
                return _put(blobs, name, headers, body)
            if name not in blobs:
                return _error(404, "BlobNotFound")
            if method == "DELETE":
                del blobs[name]
                return 202, {}, b""
        return _get(blobs[name], headers.get("x-ms-range"))


def _put(blobs: dict[str, bytes], name: str, headers: dict[str, str], body: bytes) -> Response:
    if headers.get("if-none-match") == "*" and name in blobs:
        return _error(409, "BlobAlreadyExists")
    blobs[name] = body
    return 201, _about(body), b""


def _get(content: bytes, asked: str | None) -> Response:
    found = re.fullmatch(r"bytes=(\d+)-(\d+)", asked or "")
    if found is None:
        return 200, _about(content), content
    if not content:
        return _error(416, "InvalidRange")
    first, last = int(found[1]), min(int(found[2]), len(content) - 1)
    return 206, _about(content) | {"Content-Range": f"bytes {first}-{last}/{len(content)}"}, content[first : last + 1]


def _about(content: bytes) -> dict[str, str]:
    etag = f'"{md5(content).hexdigest()}"'
    return {"ETag": etag, "Last-Modified": formatdate(usegmt=True), "x-ms-blob-type": "BlockBlob"}


def _listing(container: str, query: dict[str, str], blobs: dict[str, bytes]) -> Response:
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
    found, folders = "", set()
    for name, content in sorted(blobs.items()):
        if not name.startswith(prefix):
            continue
        if delimiter and delimiter in name[len(prefix) :]:
            folders.add(prefix + name[len(prefix) :].partition(delimiter)[0] + delimiter)
            continue
        about = _about(content)
        found += (
            f"<Blob><Name>{name}</Name><Properties><Last-Modified>{about['Last-Modified']}</Last-Modified>"
            f"<Etag>{about['ETag']}</Etag><Content-Length>{len(content)}</Content-Length>"
            "<BlobType>BlockBlob</BlobType></Properties></Blob>"
        )
    found += "".join(f"<BlobPrefix><Name>{folder}</Name></BlobPrefix>" for folder in sorted(folders))
    # adlfs takes the container's name from here.
    results = f'<EnumerationResults ContainerName="{container}"><Blobs>{found}</Blobs></EnumerationResults>'
    body = f'<?xml version="1.0" encoding="utf-8"?>{results}'
    return 200, {"Content-Type": "application/xml"}, body.encode()


def _error(status: int, code: str) -> Response:
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
    return status, {"x-ms-error-code": code, "Content-Type": "application/xml"}, body.encode()


@contextmanager
def listening(blobs: Blobs) -> Iterator[Blobs]:
    """Answer requests while inside; `blobs.endpoint` says where."""

    class Asked(Handler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, told, content = blobs.answer(self.command, self.path, headers, self.body())
            self.answer(status, content, told)

        do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    with answering(Asked) as place:
        blobs.endpoint = f"http://{place}"
        yield blobs
