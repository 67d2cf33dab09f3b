"""An engine in miniature: an OpenAI-compatible endpoint over loopback whose answers a test decides.

The real engine is asked in tests/local and tests/e2e; this one fails when it is told to.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from http_server import Handler, answering

TOO_MANY = 429
Reply = Callable[[str, list[dict[str, str]]], str]


@dataclass
class Engine:
    """`reply` answers (model, messages). After `healthy` answers every request fails with `broken`.

    An answer of more words than a request has room for is cut, as an engine cuts it.
    `likelihoods`: the probability of every token of a prompt, by model; none means that the engine can't tell.
    `thinks`: it refuses what OpenAI's reasoning models refuse. `limited`: so many requests are too many, to be asked
    again after a second. `cached`: tokens of each prompt in its prefix cache. `page`: what a web server would say.
    `reward`: of a reward model, what it makes of a request; such an engine writes nothing.
    `asked` has the requests for answers, and neither those that warm it up, which `warm` hears of, nor those for
    likelihoods; `times` when any came.
    """

    reply: Reply
    models: tuple[str, ...] = ("recipes", "recipes-base")
    context_length: int = 1024
    healthy: int = 10_000
    broken: int = 500
    thinks: bool = False
    limited: int = 0
    cached: int | None = None
    page: str = ""
    reward: Callable[[dict[str, Any]], float] | None = None
    complaint: str = "the engine has died"
    likelihoods: dict[str, float] = field(default_factory=dict)
    url: str = ""
    keys: set[str] = field(default_factory=set)
    asked: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    warm: Callable[[dict[str, Any]], object] = lambda body: None
    _lock: Lock = field(default_factory=Lock)

    def likelihood(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        told = None
        if body["model"] in self.likelihoods:
            logprob = math.log(self.likelihoods[body["model"]])
            if body.get("echo"):
                return 200, {"id": "1", "choices": [_echoed(body["prompt"][0], logprob)]}
            told = [None, *({str(token): {"logprob": logprob}} for token in body["prompt"][1:])]
        choice = {"index": 0, "text": "", "finish_reason": "length", "prompt_logprobs": told}
        return 200, {"id": "1", "object": "text_completion", "created": 1, "model": body["model"], "choices": [choice]}

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self._lock:
            if self.limited:
                self.limited -= 1
                return TOO_MANY, {"error": {"message": "slow down"}}
            if len(self.asked) >= self.healthy:
                return self.broken, {"error": {"message": self.complaint}}
            if self.thinks and ("max_tokens" in body or body.get("temperature", 1) != 1):
                return 400, {"error": {"message": "Use 'max_completion_tokens' instead.", "param": "max_tokens"}}
            if body.get("max_tokens") != 1:
                self.asked.append(body)
        if body.get("max_tokens") == 1:
            self.warm(body)
        messages = body.get("messages") or [{"role": "user", "content": body["prompt"]}]
        said = self.reply(body["model"], messages).split(" ")
        room = body.get("max_tokens") or body["max_completion_tokens"]
        text, cut = " ".join(said[:room]), len(said) > room
        text = text.partition(body.get("stop", ["\0"])[0])[0]
        words = sum(len((message["content"] or "").split()) for message in messages)
        return 200, {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    **({"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}),
                    "finish_reason": "length" if cut else "stop",
                }
            ],
            "usage": {"prompt_tokens": words, "completion_tokens": 1, "total_tokens": words + 1} | self._details(),
        }

    def rate(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """As vLLM does at /classify: the number itself only where nothing else is to be made of it."""
        assert self.reward
        assert body["use_activation"] is False
        with self._lock:
            if len(self.asked) >= self.healthy:
                return self.broken, {"error": {"message": self.complaint}}
            (self.warm if body["cache_salt"] == "warming up" else self.asked.append)(body)
        rated = {"index": 0, "label": "LABEL_0", "probs": [self.reward(body)], "num_classes": 1}
        usage = {"prompt_tokens": 30, "total_tokens": 30, "completion_tokens": 0, "prompt_tokens_details": None}
        return 200, {"id": "1", "object": "list", "model": body["model"], "data": [rated], "usage": usage}

    def _details(self) -> dict[str, Any]:
        return {} if self.cached is None else {"prompt_tokens_details": {"cached_tokens": self.cached}}

    def list(self) -> dict[str, Any]:
        models = [{"id": name, "object": "model", "created": 1, "owned_by": "us"} for name in self.models]
        return {"object": "list", "data": [model | {"max_model_len": self.context_length} for model in models]}


def _echoed(prompt: list[int], logprob: float) -> dict[str, Any]:
    """OpenAI's older form: the prompt's own tokens, and the one that was made."""
    known = [None, *([logprob] * len(prompt))]
    top = [None if each is None else {"a": each} for each in known]
    return {"index": 0, "text": "", "logprobs": {"token_logprobs": known, "top_logprobs": top}}


@contextmanager
def running(engine: Engine) -> Iterator[Engine]:
    """Serve it while inside."""

    class Asked(Handler):
        def do_GET(self) -> None:
            self._send(200, engine.list())

        def do_POST(self) -> None:
            body = json.loads(self.body())
            engine.keys.add(self.headers["Authorization"])
            engine.times.append(time.monotonic())
            if (self.path == "/classify") != (engine.reward is not None):
                return self._send(404, {"error": {"message": f"{self.path} is not here"}})
            if engine.reward:
                return self._send(*engine.rate(body))
            asks = "messages" in body or isinstance(body["prompt"], str)
            return self._send(*(engine.answer if asks else engine.likelihood)(body))

        def _send(self, status: int, body: dict[str, Any]) -> None:
            # A client that need not wait makes a failing engine a quick test.
            soon = {"Retry-After": "1"} if status == TOO_MANY else {"retry-after-ms": "1"}
            kind = {"Content-Type": "text/html" if engine.page else "application/json"}
            self.answer(status, engine.page.encode() or json.dumps(body).encode(), soon | kind)

    with answering(Asked) as place:
        engine.url = f"http://{place}/v1"
        yield engine
