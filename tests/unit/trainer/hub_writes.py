"""The hub in miniature, for whoever writes to it: repositories, large files, commits and tags.

Files go by Git LFS as the hub's client sends them where Xet's own program is switched off: that one speaks to other
servers, which have no likeness here.
"""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha1
from threading import Lock
from typing import Any

from hub import Hub, Repository

Response = tuple[int, dict[str, str], bytes]


@dataclass
class WritableHub(Hub):
    """`writer`: whose token may write. `large`: the files' bytes by their SHA-256. `refuses`: words of a path, and the
    status that a write there is answered with.
    """

    writer: str = ""
    large: dict[str, bytes] = field(default_factory=dict)
    refuses: tuple[str, int] | None = None
    private: dict[str, bool] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def write(self, method: str, path: str, token: str | None, body: bytes) -> Response:
        """Status, headers and body."""
        if self.refuses and self.refuses[0] in path:
            return self.refuses[1], {}, b"{}"
        if found := re.fullmatch(r"/large/(\w+)", path):
            self.large[found[1]] = body
            return 200, {}, b""
        if token != f"Bearer {self.writer}":
            return 401, {}, b"{}"
        acts: dict[str, Callable[[re.Match[str], bytes], Response]] = {
            "POST /api/repos/create": self._create,
            "POST /api/validate-yaml": lambda found, body: _json({}),
            "POST /api/models/([^/]+/[^/]+)/preupload/.+": self._modes,
            "POST /([^/]+/[^/]+)[.]git/info/lfs/objects/batch": self._batch,
            "POST /api/models/([^/]+/[^/]+)/commit/main": self._commits,
            "POST /api/models/([^/]+/[^/]+)/tag/([^/]+)": self._tag,
            "DELETE /api/models/([^/]+/[^/]+)/tag/([^/]+)": self._untag,
        }
        for pattern, act in acts.items():
            if found := re.fullmatch(pattern, f"{method} {path.partition('?')[0]}"):
                with self.lock:
                    return act(found, body)
        return 404, {}, b"{}"

    def _create(self, found: re.Match[str], body: bytes) -> Response:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.repositories:
            return 409, {}, json.dumps({"url": f"{self.endpoint}/{name}"}).encode()
        first = sha1(name.encode()).hexdigest()
        self.repositories[name] = Repository({first: {".gitattributes": b""}}, {"main": first}, token=self.writer)
        self.private[name] = asked.get("visibility") == "private"
        return _json({"url": f"{self.endpoint}/{name}", "name": name})

    def _modes(self, found: re.Match[str], body: bytes) -> Response:
        names = [each["path"] for each in json.loads(body)["files"]]
        large = {name: "lfs" if name.endswith(".safetensors") else "regular" for name in names}
        return _json({"files": [{"path": name, "uploadMode": large[name], "shouldIgnore": False} for name in names]})

    def _batch(self, found: re.Match[str], body: bytes) -> Response:
        objects = json.loads(body)["objects"]
        for each in objects:
            if each["oid"] not in self.large:
                each["actions"] = {"upload": {"href": f"{self.endpoint}/large/{each['oid']}"}}
        return _json({"transfer": "basic", "objects": objects})

    def _commits(self, found: re.Match[str], body: bytes) -> Response:
        lines = [json.loads(line) for line in body.splitlines()]
        repository = self.repositories[found[1]]
        if lines[0]["value"].get("parentCommit") != repository.branches["main"]:
            return 412, {}, b'{"error": "A commit has happened since."}'
        files = dict(repository.commits[repository.branches["main"]])
        for key, value in ((line["key"], line["value"]) for line in lines[1:]):
            if key == "deletedFile":
                del files[value["path"]]
            else:
                content = self.large[value["oid"]] if key == "lfsFile" else base64.b64decode(value["content"])
                files[value["path"]] = content
        commit = sha1(body + repository.branches["main"].encode()).hexdigest()
        repository.commits[commit] = files
        repository.branches["main"] = commit
        return _json({"commitUrl": f"{self.endpoint}/{found[1]}/commit/{commit}", "commitOid": commit})

    def _tag(self, found: re.Match[str], body: bytes) -> Response:
        branches, tag = self.repositories[found[1]].branches, json.loads(body)["tag"]
        if tag in branches:
            return 409, {}, b"{}"
        branches[tag] = found[2]
        return _json({})

    def _untag(self, found: re.Match[str], body: bytes) -> Response:
        if self.repositories[found[1]].branches.pop(found[2], None) is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        return _json({})


def _json(value: Any) -> Response:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()
