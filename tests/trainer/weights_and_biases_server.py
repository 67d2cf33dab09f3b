"""What stands in for Weights & Biases, a cloud: answers the real client's requests, and keeps what came. Used by
test_wandb.

As the client's own queries ask for it: a run is made or found by its id (GraphQL), and its steps come as lines that are
put where the client says (file_stream). A request that is not known here fails the test that made it.
"""

import base64
import gzip
import json
import threading
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any

from http_server import Handler

ENTITY = "the-team"


@dataclass
class Kept:
    """A run. `lines`: its history; `state`: as its page would show it."""

    id: str
    project: str
    entity: str | None
    group: str
    name: str
    tags: list[str]
    config: dict[str, Any]
    lines: list[dict[str, Any]] = field(default_factory=list)
    state: str = "running"
    preempting: bool = False

    def shown(self, metric: str) -> list[tuple[int, float]]:
        """A metric's values by step, each as often as it is there."""
        return [(line["_step"], line[metric]) for line in self.lines if metric in line]


class Server(ThreadingHTTPServer):
    """The server. `key`: whose runs it takes; `refuses`: the status for each file_stream, where it takes none."""

    def __init__(self, key: str) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.key = key
        self.runs: dict[str, Kept] = {}
        self.refuses: int | None = None
        self.refused = threading.Event()
        self.unknown: list[str] = []
        self.said: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Asked(Handler):
    """One connection."""

    server: Server

    def do_POST(self) -> None:
        body = self.body()
        text = (gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body).decode()
        self.server.said.append(text)
        allowed = base64.b64encode(f"api:{self.server.key}".encode()).decode()
        if self.headers["Authorization"] != f"Basic {allowed}":
            self.answer_json({"errors": [{"message": "invalid api key"}]}, 401)
        elif self.path == "/graphql":
            asked = json.loads(text)
            self.answer_json({"data": self._queried(asked["operationName"], asked["variables"])})
        elif self.path.endswith("/file_stream"):
            self._streamed(self.server.runs[self.path.split("/")[-2]], json.loads(text))
        else:
            self._unknown(self.path)
            self.answer_json({}, 404)

    def do_GET(self) -> None:
        self._unknown(self.path)
        self.answer_json({}, 404)

    def _queried(self, name: str, told: dict[str, Any]) -> dict[str, Any]:
        if name == "RunResumeStatus":
            return {"model": self._resumed(told)}
        if name == "UpsertBucket":
            return {"upsertBucket": {"bucket": self._upserted(told), "inserted": True}}
        if name == "CreateRunFiles":
            # It asks where to send files even where it has none.
            if told["files"]:
                self._unknown(f"files {told['files']}")
            return {"createRunFiles": {"runID": told["run"], "uploadHeaders": [], "files": []}}
        if name == "OrganizationCoreWeaveOrganizationID":
            return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}
        self._unknown(name)
        return {}

    def _resumed(self, told: dict[str, Any]) -> dict[str, Any] | None:
        run = self.server.runs.get(told["name"])
        if run is None:
            return None
        run.state, run.preempting = "running", False
        bucket = {
            "id": run.id,
            "name": run.id,
            "displayName": run.name,
            "tags": run.tags,
            "notes": None,
            "config": json.dumps({name: {"value": value} for name, value in run.config.items()}),
            "summaryMetrics": "{}",
            "historyLineCount": len(run.lines),
            "historyTail": json.dumps([json.dumps(line) for line in run.lines[-1:]]),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "eventsTail": "[]",
            # By this the client knows a run that was begun.
            "wandbConfig": json.dumps({"t": 1}),
        }
        return {**self._project(run), "bucket": bucket}

    def _upserted(self, told: dict[str, Any]) -> dict[str, Any]:
        config = {name: each["value"] for name, each in json.loads(told["config"]).items()}
        made = Kept(
            told["name"],
            told["project"],
            told["entity"],
            told["groupName"],
            told["displayName"],
            told["tags"] or [],
            config,
        )
        run = self.server.runs.setdefault(made.id, made)
        run.config = config
        return {
            "id": run.id,
            "name": run.id,
            "displayName": run.name,
            "description": None,
            "config": told["config"],
            "sweepName": None,
            "project": self._project(run),
            "historyLineCount": len(run.lines),
        }

    def _project(self, run: Kept) -> dict[str, Any]:
        entity = run.entity or ENTITY
        return {"id": run.project, "name": run.project, "entity": {"id": entity, "name": entity}}

    def _streamed(self, run: Kept, told: dict[str, Any]) -> None:
        if self.server.refuses:
            self.server.refused.set()
            self.answer_json({"error": "refused"}, self.server.refuses)
            return
        history = told.get("files", {}).get("wandb-history.jsonl")
        if history:
            run.lines[history["offset"] :] = [json.loads(line) for line in history["content"]]
        run.preempting |= told.get("preempting", False)
        if told.get("complete"):
            failed = "preempted" if run.preempting else "failed"
            run.state = failed if told["exitcode"] else "finished"
        self.answer_json({"exitcode": None, "limits": {}})

    def _unknown(self, what: str) -> None:
        self.server.unknown.append(what)
