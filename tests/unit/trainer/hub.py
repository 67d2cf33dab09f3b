"""A hub in miniature: the few endpoints that huggingface_hub's client asks, over loopback."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any

from http_server import Handler, answering

_COMMIT = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/?]+))?$")
_TREE = re.compile(r"/api/(?:models/)?((?:datasets/)?[^/]+/[^/]+)/tree/([^/?]+)")
_FILE = re.compile(r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)$")


@dataclass
class Repository:
    """Files by commit; `branches` to commits. `token`: the one that may read it; `gated`: its terms aren't accepted.

    `storage`: where the client is sent for the files' bytes. `card`: the front matter of its card.
    """

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    token: str | None = None
    gated: bool = False
    storage: str | None = None
    card: dict[str, Any] = field(default_factory=dict)


@dataclass
class Hub:
    """What is there, and every file that was asked for, in order. `fails`: the status of every answer.

    `broken`: the files that can't be had.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fails: int | None = None
    broken: set[str] = field(default_factory=set)
    endpoint: str = ""

    def answer(self, path: str, token: str | None, method: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        if self.fails or path.startswith("/broken/"):
            return self.fails or 500, {}, b""
        for pattern, act in ((_COMMIT, self._commit), (_TREE, self._tree), (_FILE, self._file)):
            if found := pattern.match(path.partition("?")[0]):
                if pattern is _FILE and method == "GET":
                    self.asked.append(found["path"])
                return self._allowed(found, token) or act(found)
        return 404, {}, b""

    def write(self, method: str, path: str, token: str | None, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """A hub that nobody writes to; `hub_writes` has another."""
        return 404, {}, b""

    def _repository(self, found: re.Match[str]) -> Repository | None:
        groups = found.groupdict()
        return self.repositories.get(f"{groups['kind'] or ''}{groups['name']}" if groups else found[1])

    def _allowed(self, found: re.Match[str], token: str | None) -> tuple[int, dict[str, str], bytes] | None:
        repository = self._repository(found)
        if repository is None or (repository.token and token is None):
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        if repository.token and token != f"Bearer {repository.token}":
            return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b""
        if repository.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        return None

    def _commit(self, found: re.Match[str]) -> tuple[int, dict[str, str], bytes]:
        repository = self._repository(found)
        commit = self._resolved(repository, found[2] or "main")
        if commit is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        return _json({"id": found[1], "sha": commit, "siblings": [], "cardData": repository.card})

    def _tree(self, found: re.Match[str]) -> tuple[int, dict[str, str], bytes]:
        repository = self._repository(found)
        files = repository.commits[self._resolved(repository, found[2]) or ""]
        return _json(
            [{"type": "file", "path": path, "size": len(body), "oid": _etag(body)} for path, body in files.items()]
        )

    def _file(self, found: re.Match[str]) -> tuple[int, dict[str, str], bytes]:
        repository = self._repository(found)
        commit = self._resolved(repository, found["revision"])
        if commit is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if found["path"] in self.broken:
            return 500, {}, b""
        body = repository.commits[commit].get(found["path"])
        if body is None:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        if repository.storage:
            linked = {"X-Linked-Size": str(len(body)), "X-Linked-Etag": f'"{_etag(body)}"'}
            return 302, {"X-Repo-Commit": commit, "Location": repository.storage, **linked}, b""
        return 200, {"X-Repo-Commit": commit, "ETag": f'"{_etag(body)}"'}, body

    def _resolved(self, repository: Repository, revision: str) -> str | None:
        return revision if revision in repository.commits else repository.branches.get(revision)


def _etag(body: bytes) -> str:
    return sha1(body).hexdigest()


def _json(value: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


@contextmanager
def listening(hub: Hub) -> Iterator[Hub]:
    """Answer requests while inside; `hub.endpoint` says where."""

    class Asked(Handler):
        def do_GET(self) -> None:
            status, headers, content = hub.answer(self.path, self.headers["Authorization"], self.command)
            self.answer(status, content, headers)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            status, headers, content = hub.write(self.command, self.path, self.headers["Authorization"], self.body())
            self.answer(status, content, headers)

        do_PUT = do_DELETE = do_POST

    with answering(Asked) as place:
        hub.endpoint = f"http://{place}"
        yield hub
