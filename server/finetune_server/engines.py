"""Asks the engine of a model for whoever asks the server: the request passed on, the answer streamed as it comes."""

import json
from contextlib import AsyncExitStack

import httpx
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from finetune_server.errors import Problem
from finetune_server.ground import Waking
from finetune_server.incoming import Turns, while_there
from finetune_server.routing import ModelRoute

# An answer may take as long as its tokens do; between two of them hardly anything.
TIMEOUT = httpx.Timeout(10, read=600)
# Nothing that the client sent goes on but its question, its key least of all.
_ASKS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
# What is between two machines alone (RFC 9110, 7.6.1), and what the server in front writes itself.
_HOP = {
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"),
    *("upgrade", "date", "server"),
}


class Relay:
    """All engines, asked by one client; at most so many requests at a time. `waking`: those that sleep first."""

    def __init__(self, client: httpx.AsyncClient, most: int, waking: Waking) -> None:
        self._client, self._turns, self._waking = client, Turns(most, "The questions under way"), waking

    async def ask(self, request: Request, namespace: str, route: ModelRoute, rest: bytes) -> StreamingResponse:
        """Ask what is behind the request's path, the JSON object `rest`. Raises Problem where the engine does not
        answer, or too many are asking, and ClientDisconnect.
        """
        path, content = request.scope["path"].removeprefix("/v1"), with_model(route.model, rest)

        async def send(url: str) -> httpx.Response:
            asking = self._client.build_request("POST", f"{url}{path}", content=content, headers=_ASKS)
            return await self._client.send(asking, stream=True)

        async with AsyncExitStack() as stack:
            stack.enter_context(self._turns.turn(namespace))
            try:
                answer = await while_there(request, self._waking.asked(namespace, route, send))
            except httpx.HTTPError as error:
                raise Problem(
                    503, f"Model {route.name} does not answer now: try again in a moment.", code="model_unavailable"
                ) from error
            stack.push_async_callback(answer.aclose)
            if answer.status_code == 401:
                # hosting.apiKey, or an Engine's: a Secret that nobody here may read.
                sentence = f"{route.name} asks for a key of its own: ask it at its own address."
                raise Problem(403, sentence, "model", "own_key")
            return _Relayed(answer, stack.pop_all())


def with_model(model: str, rest: bytes) -> bytes:
    """The JSON object `rest` with the model's name."""
    head = b'{"model": ' + json.dumps(model).encode()
    return head + (b"}" if rest == b"{}" else b", " + rest[1:])


class _Relayed(StreamingResponse):
    """An engine's answer. However it ends, the engine is let go: a client that leaves ends the generation, too."""

    def __init__(self, answer: httpx.Response, held: AsyncExitStack) -> None:
        headers = {name: value for name, value in answer.headers.items() if name not in _HOP}
        super().__init__(answer.aiter_raw(), answer.status_code, headers)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)
