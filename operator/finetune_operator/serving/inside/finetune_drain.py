"""Let an engine that is about to stop go without a failed request. vLLM's `--middleware`, and the pod's preStop hook.

A pod that ends gets no new connections from its Services, but a client goes on with the connection that it has, and an
engine that got SIGTERM finishes what is under way and answers 500 to the rest. So the hook, which is `finetune_drain.py
SECONDS`, leaves a mark and waits; from the mark on, every answer asks the client to take a new connection.
"""

import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

# In the pod's own emptyDir, which a new pod starts without.
MARK = Path("/tmp/finetune-drain")  # noqa: S108


class AskToReconnect:
    """ASGI middleware: `Connection: close` on every answer once the mark is there."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass everything on, and add the header to the start of an answer."""

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and _ending():
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        await self.app(scope, receive, closing)


def _ending() -> bool:
    return MARK.exists()


if __name__ == "__main__":
    MARK.touch()
    time.sleep(float(sys.argv[1]))
