"""Names of adapters in an engine that loads them while it runs: vLLM's `--middleware` beside the drain's.

The container that loads them leaves files in the volume that both have. One says by which further names clients may
call adapters: requests are passed on with the adapter's own. Another, which of those names are served elsewhere by now:
who still asks for one here is told to take a new connection, which goes there. The last has the key without which
nobody loads or unloads one: that a request comes from this machine would prove little, for meshes and port-forwards do,
too.

Who comes through a FineTuneJob's Service finds that one's model and the base model, as at an engine of its own, and no
other adapter: the name by which the engine is asked says so. That keeps things apart; to keep people out is the key's.

That container also says when the engine has all that it should serve; until then the pod isn't ready.
"""

import json
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

ROOT = Path(os.environ.get("FINETUNE_ADAPTERS", "/adapters"))
KEY_HEADER = b"x-finetune-key"
READY = "/finetune/ready"
MODELS = "/v1/models"
_JSON = b"application/json"


class Names:
    """ASGI middleware: further names for adapters, and closed doors where they are loaded."""

    def __init__(self, app: App) -> None:
        self.app = app
        # Of this process: one that starts again has nothing loaded.
        self.ready = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass on, refuse, or pass on with other names."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["path"] == READY:
            await self._readiness(scope, receive, send)
        elif _has_key(scope):
            await self.app(scope, receive, send)
        elif _loads(scope["path"]):
            await _answer(
                send, 403, "Adapters are loaded by the Engine's own pod: see hosting.engine of a FineTuneJob."
            )
        elif scope["method"] == "GET" and scope["path"] == MODELS:
            await self.app(scope, receive, _Listing(send, _door(scope)))
        elif scope["method"] == "POST" and _header(scope, b"content-type").startswith(_JSON):
            await self._renamed(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _readiness(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST" and _has_key(scope):
            self.ready = True
        if self.ready:
            await self.app({**scope, "method": "GET", "path": "/health", "raw_path": b"/health"}, receive, send)
        else:
            await _answer(send, 503, "Adapters are being loaded.")

    async def _renamed(self, scope: Message, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        if body is None:
            return
        document = _document(body)
        asked, aliases, door = document.get("model"), _read("aliases.json", {}), _door(scope)
        if door and isinstance(asked, str) and await self._is_anothers(scope, door, asked, aliases):
            await _answer(send, 404, f"{asked} is no model of {door}. Its Engine has it: ask that by its own name.")
            return
        if isinstance(asked, str) and asked in aliases:
            body = json.dumps(document | {"model": aliases[asked]}).encode()
            if asked in _read("leaving.json", []):
                send = _closing(send)
        passed = False

        async def again() -> Message:
            nonlocal passed
            if passed:
                return await receive()
            passed = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app({**scope, "headers": _sized(scope["headers"], body)}, again, send)

    async def _is_anothers(self, scope: Message, door: str, asked: str, aliases: Mapping[str, str]) -> bool:
        """Whether it is an adapter that the engine has for another one than `door`."""
        if _is_of(door, asked, aliases):
            return False
        if asked in aliases:
            return True
        told: list[Message] = []

        async def nothing() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def kept(message: Message) -> None:
            told.append(message)

        listing = {"method": "GET", "path": MODELS, "raw_path": MODELS.encode(), "query_string": b""}
        await self.app({**scope, **listing, "headers": _sized(scope["headers"], b"")}, nothing, _Listing(kept, None))
        models = _document(told[1]["body"]).get("data", ()) if told[0]["status"] == 200 else ()
        return any(model["id"] == asked and model.get("parent") for model in models)


class _Listing:
    """An answer to /v1/models, on whose way further names are added, and what `door` doesn't lead to is left out."""

    def __init__(self, send: Send, door: str | None) -> None:
        self._send = send
        self._door = door
        self._start: Message = {}
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        listed = self._start["status"] == 200
        body = _with_models(self._body, _read("aliases.json", {}), self._door) if listed else self._body
        await self._send({**self._start, "headers": _sized(self._start.get("headers", []), body)})
        await self._send({"type": "http.response.body", "body": body})


def _loads(path: str) -> bool:
    """Whether a route changes what is loaded; /adapters is SageMaker's name for it, and asks for no API key."""
    return "lora_adapter" in path or path.rstrip("/") == "/adapters" or path.startswith("/adapters/")


def _has_key(scope: Message) -> bool:
    try:
        key = (ROOT / "key").read_bytes() if _header(scope, KEY_HEADER) else b""
    except FileNotFoundError:
        return False
    return bool(key) and secrets.compare_digest(_header(scope, KEY_HEADER), key)


def _header(scope: Message, name: bytes) -> bytes:
    return next((bytes(value) for key, value in scope["headers"] if key == name), b"")


def _door(scope: Message) -> str | None:
    """The FineTuneJob whose Service a request came through: the first part of a name that the cluster gives Services,
    NAME, NAME.NAMESPACE or NAME.NAMESPACE.svc and what follows. None for all others, such as the Engine's own.
    """
    name, *further = _header(scope, b"host").decode("latin-1").lower().partition(":")[0].split(".")
    of_a_service = len(further) < 2 or further[1] == "svc"
    return name if of_a_service and name in _read("aliases.json", {}) else None


def _is_of(door: str, model: str, aliases: Mapping[str, str]) -> bool:
    """Whether a model is that FineTuneJob's: by its name, or a revision's, which ends in eight hexadecimal digits. A
    FineTuneJob may be called so, too.
    """
    name, _, revision = model.rpartition("-")
    is_revision = name == door and len(revision) == 8 and set(revision) <= set("0123456789abcdef")
    return model == door or (is_revision and model not in aliases)


def _sized(headers: list[tuple[bytes, bytes]], body: bytes) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in headers if name.lower() not in (b"content-length", b"transfer-encoding")]
    return [*kept, (b"content-length", str(len(body)).encode())]


async def _answer(send: Send, status: int, message: str) -> None:
    """In OpenAI's form."""
    body = json.dumps({"error": {"message": message, "type": "Refused", "param": None, "code": status}}).encode()
    await send({"type": "http.response.start", "status": status, "headers": _sized([(b"content-type", _JSON)], body)})
    await send({"type": "http.response.body", "body": body})


async def _body(receive: Receive) -> bytes | None:
    """All of a request's; None where the client has gone before it had sent it."""
    found = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        found.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(found)


def _read(name: str, without: Any) -> Any:
    """A file, read at each request, which costs less than to ask whether that is needed."""
    try:
        return json.loads((ROOT / name).read_bytes())
    except FileNotFoundError:
        return without


def _document(body: bytes) -> dict[str, Any]:
    """The JSON object that a request is; nothing where it is none, which is the engine's to refuse."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _closing(send: Send) -> Send:
    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
        await send(message)

    return closing


def _with_models(body: bytes, aliases: Mapping[str, str], door: str | None) -> bytes:
    listed = json.loads(body)
    models = {model["id"]: model for model in listed["data"]}
    listed["data"] += [models[name] | {"id": alias} for alias, name in sorted(aliases.items()) if name in models]
    if door:
        found = listed["data"]
        listed["data"] = [each for each in found if not each.get("parent") or _is_of(door, each["id"], aliases)]
    return json.dumps(listed).encode()
