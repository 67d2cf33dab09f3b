"""Who is asked how far pods are: several of one of ours, each at its address, as often as there may be news."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import httpx
import pytest
from finetune_operator.api.engine import KIND as ENGINE
from finetune_operator.kinds.questions import Question, status_topic
from finetune_operator.serving.load import LOAD
from finetune_operator.shell.progress import AT_ONCE, Poller
from finetune_operator.shell.resources import Key
from finetune_trainer.contract.adapters import HeldAdapters

KEY = Key(ENGINE, "team", "chat")
HELD = status_topic(HeldAdapters, lambda held: held, silence=True)


class Pods(httpx.AsyncBaseTransport):
    """What each address answers; `asked` is set at every request."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.asked = asyncio.Event()
        # Those that take a question and never answer.
        self.hang: set[str] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        self.counts[host] = self.counts.get(host, 0) + 1
        self.asked.set()
        if host in self.hang:
            await asyncio.Event().wait()
        if host not in self.answers:
            raise httpx.ConnectError("nobody listens")
        return httpx.Response(200, stream=httpx.ByteStream(self.answers[host]))


@pytest.fixture
async def pods() -> Pods:
    return Pods()


@pytest.fixture
async def news() -> "asyncio.Queue[Key]":
    return asyncio.Queue()


@pytest.fixture
async def poller(pods: Pods, news: "asyncio.Queue[Key]") -> AsyncIterator[Poller]:
    async with aclosing(Poller(httpx.AsyncClient(transport=pods), 0.01, news.put_nowait)) as found:
        yield found


def asked(pods: dict[str, str]) -> dict[str, Question]:
    return {name: Question(address, HELD) for name, address in pods.items()}


def told(**fields: Any) -> bytes:
    return HeldAdapters(**fields).model_dump_json(by_alias=True).encode()


async def test_each_pod_has_its_own_answer(poller: Poller, pods: Pods, news: "asyncio.Queue[Key]") -> None:
    pods.answers = {"10.0.0.1": told(loaded=("a",)), "10.0.0.2": told(loaded=("a", "b"))}
    poller.follow(KEY, asked({"chat-1": "10.0.0.1", "chat-2": "10.0.0.2"}), soon=True)
    assert [await news.get(), await news.get()] == [KEY, KEY]
    assert poller.last(KEY) == {"chat-1": HeldAdapters(loaded=("a",)), "chat-2": HeldAdapters(loaded=("a", "b"))}
    # One that is gone is not asked, and has said nothing.
    poller.follow(KEY, asked({"chat-2": "10.0.0.2"}))
    assert list(poller.last(KEY)) == ["chat-2"]
    poller.follow(KEY, {})
    assert poller.last(KEY) == {}


def metrics(running: int, ended: int) -> bytes:
    counts = {"num_requests_running": running, "request_success_total": ended}
    return "\n".join(f'vllm:{name}{{engine="0"}} {count}.0' for name, count in counts.items()).encode()


async def test_only_what_people_see_is_news(poller: Poller, pods: Pods, news: "asyncio.Queue[Key]") -> None:
    pods.answers = {"10.0.0.1": metrics(running=1, ended=1)}
    poller.follow(KEY, {"chat-1": Question("10.0.0.1", LOAD)})
    await news.get()
    pods.answers = {"10.0.0.1": metrics(running=1, ended=2)}
    pods.asked.clear()
    while poller.last(KEY)["chat-1"].ended != 2:
        await pods.asked.wait()
        await asyncio.sleep(0)
    assert news.empty()
    pods.answers = {"10.0.0.1": metrics(running=0, ended=3)}
    assert await news.get() == KEY
    # Each answer is held against the one before: since this one, nothing has been asked of it.
    since = poller.last(KEY)["chat-1"].since
    while poller.last(KEY)["chat-1"].idle == timedelta():
        await pods.asked.wait()
        await asyncio.sleep(0)
    assert poller.last(KEY)["chat-1"].since == since


async def test_what_a_pod_said_stays_while_it_is_mute_and_is_not_another_pods(
    poller: Poller, pods: Pods, news: "asyncio.Queue[Key]"
) -> None:
    pods.answers = {"10.0.0.1": told(loaded=("a",))}
    poller.follow(KEY, asked({"chat-1": "10.0.0.1"}))
    await news.get()
    pods.answers = {}
    # Asked more often from now on, it has still said what it said.
    poller.follow(KEY, asked({"chat-1": "10.0.0.1"}), soon=True)
    assert poller.last(KEY) == {"chat-1": HeldAdapters(loaded=("a",))}
    poller.follow(KEY, asked({"chat-1": "10.0.0.9"}), soon=True)
    assert poller.last(KEY) == {}
    poller.follow(KEY, asked({"chat-2": "10.0.0.1"}), soon=True)
    assert poller.last(KEY) == {}


async def test_that_a_pod_gives_no_answer_is_news_once(poller: Poller, pods: Pods, news: "asyncio.Queue[Key]") -> None:
    poller.follow(KEY, asked({"chat-1": "10.0.0.1"}))
    assert poller.last(KEY) == {}
    assert await news.get() == KEY
    assert poller.last(KEY) == {"chat-1": None}
    before = pods.counts["10.0.0.1"]
    while pods.counts["10.0.0.1"] < before + 3:
        pods.asked.clear()
        await pods.asked.wait()
    assert news.empty()
    pods.answers = {"10.0.0.1": told(loaded=("a",))}
    assert await news.get() == KEY
    assert poller.last(KEY) == {"chat-1": HeldAdapters(loaded=("a",))}


async def test_engines_that_are_mute_keep_nobody_from_saying_how_far_it_is(
    poller: Poller, pods: Pods, news: "asyncio.Queue[Key]"
) -> None:
    mute = [f"10.1.0.{number}" for number in range(2 * AT_ONCE)]
    pods.hang = set(mute)
    poller.follow(Key(ENGINE, "team", "busy"), {host: Question(host, LOAD) for host in mute})
    while len(pods.counts) < AT_ONCE:
        await pods.asked.wait()
        pods.asked.clear()
    pods.answers = {"10.0.0.1": told(loaded=("a",))}
    poller.follow(KEY, asked({"chat-1": "10.0.0.1"}))
    assert await news.get() == KEY
    assert set(pods.counts) - {"10.0.0.1"} == set(mute[:AT_ONCE])


@pytest.mark.parametrize(("every", "longest", "rest"), [(1, 0, 2), (4, 45, 60)])
async def test_what_no_decision_hangs_on_is_asked_in_one_round_of_several_though_it_be_mute(
    every: int, longest: float, rest: float, pods: Pods, news: "asyncio.Queue[Key]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the first time at any moment of these: an operator that starts follows thousands."""
    rests: asyncio.Queue[float] = asyncio.Queue(1)
    monkeypatch.setattr(asyncio, "sleep", rests.put)
    async with aclosing(Poller(httpx.AsyncClient(transport=pods), 15, news.put_nowait)) as poller:
        poller.follow(KEY, {"chat-1/load": Question("10.0.0.1", LOAD, every)})
        assert 0 <= await rests.get() <= longest
        assert [await rests.get() for _ in range(3)] == [rest] * 3
    # That an engine computes, and says nothing meanwhile, is no news.
    assert news.empty()


async def test_what_a_later_version_says_beside_it_is_left_alone(
    poller: Poller, pods: Pods, news: "asyncio.Queue[Key]"
) -> None:
    pods.answers = {"10.0.0.1": b'{"loaded": ["a"], "temperature": 37}'}
    poller.follow(KEY, asked({"chat-1": "10.0.0.1"}))
    await news.get()
    assert poller.last(KEY) == {"chat-1": HeldAdapters(loaded=("a",))}


async def test_nothing_is_on_its_way_once_it_is_closed(poller: Poller, pods: Pods) -> None:
    before = asyncio.all_tasks()
    poller.follow(KEY, asked({"chat-1": "10.0.0.1", "chat-2": "10.0.0.2"}))
    await pods.asked.wait()
    await poller.aclose()
    assert asyncio.all_tasks() == before
