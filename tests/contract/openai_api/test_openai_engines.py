"""Engines asked by OpenAI's client through the API server: by their names, and woken where they sleep."""

import itertools
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from bad_engines import SMALLEST
from control_plane import PATIENCE, Kubectl
from openai import OpenAI
from openai_server import KEY, PLAIN, Engine, Keyring, refused

Ask = Callable[..., Any]
QUESTION: Any = [{"role": "user", "content": "Pancakes?"}]
RETRY = {"retry-after": "15"}


@pytest.fixture
def serves(kubectl: Kubectl, engine_url: str) -> Callable[..., None]:
    """Make an Engine, and tell of it what the operator would. `pods`: those that answer."""

    def tell(name: str = "chat", pods: int = 1, ready: str = "True", message: str = "", **spec: Any) -> None:
        metadata = SMALLEST["metadata"] | {"name": name}
        kubectl("apply", "-f-", document=SMALLEST | {"metadata": metadata, "spec": SMALLEST["spec"] | spec})
        generation = json.loads(kubectl("get", "eng", name, "-o", "json"))["metadata"]["generation"]
        condition = {"type": "Ready", "status": ready, "reason": "Told", "message": message}
        condition |= {"observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z"}
        told = {"url": f"{engine_url}/v1", "availableReplicas": pods, "wakesTo": 2, "conditions": [condition]}
        status = json.dumps({"status": told | {"observedGeneration": generation}})
        kubectl("patch", "eng", name, "--subresource=status", "--type=merge", "-p", status)

    return tell


@pytest.fixture
def sleeps(serves: Callable[..., None]) -> None:
    """An Engine that had two pods."""
    serves(pods=0, replicas=0, idleAfter="30m")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as found:
        yield found


@pytest.fixture
def ask(client: OpenAI) -> Ask:
    return lambda model="chat", **others: client.chat.completions.create(model=model, messages=QUESTION, **others)


def woken(kubectl: Kubectl) -> None:
    """It is scaled up, by whoever asks for it."""
    kubectl("wait", "eng/chat", "--for=jsonpath={.spec.replicas}=2", f"--timeout={PATIENCE}s")


def awake(kubectl: Kubectl, serves: Callable[..., None]) -> None:
    """Its pods answer, by the operator's word."""
    woken(kubectl)
    serves(pods=2, replicas=2, idleAfter="30m")


def on_engine(kubectl: Kubectl, url: str, name: str = "recipes") -> None:
    """A FineTuneJob that is promoted on the Engine, though it is at work on another revision."""
    spec = {
        "model": {"source": "hf://org/model"},
        "dataset": {"train": {"source": "s3://rows/train.jsonl"}},
        "hosting": {"engine": {"name": "chat"}},
        "output": {"destination": "s3://models/recipes"},
    }
    job = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": name}, "spec": spec}
    kubectl("apply", "-f-", document=job)
    told = {"phase": "Training", "revision": "2b3c4d5e", "servedRevision": "1a2b3c4d", "conditions": []}
    told |= {"endpoint": {"url": f"{url}/v1", "model": name}, "progress": None}
    patch = json.dumps({"status": told})
    kubectl("patch", "ftj", name, "--subresource=status", "--type=merge", "-p", patch)


def test_an_engine_answers_under_its_name_and_so_does_what_is_promoted_on_it(
    kubectl: Kubectl,
    client: OpenAI,
    keys: Keyring,
    namespace: str,
    engine: Engine,
    engine_url: str,
    serves: Callable[..., None],
    ask: Ask,
) -> None:
    serves()
    on_engine(kubectl, engine_url)
    listed = {each.id: each.owned_by for each in client.models.list()}
    assert listed["chat"] == listed["recipes"] == namespace
    for name in ("chat", "recipes"):
        assert client.models.retrieve(name).id == name
        assert ask(name).choices[0].message.content == "flour, eggs"
        assert engine.asked[-1]["model"] == name
        said = refused(openai.PermissionDeniedError, lambda name=name: client.models.delete(name))
        assert said == f"{name} is served by an Engine, and not deleted here: who made it deletes it by kubectl."
    # Another namespace has neither, and no name leads out of one's own.
    keys.give("sk-another", "elsewhere")
    other = client.with_options(api_key="sk-another")
    assert not {"chat", "recipes"} & {each.id for each in other.models.list()}
    for name in ("chat", f"../{namespace}/chat", f"{namespace}/chat"):
        question = {"model": name, "messages": QUESTION}
        said = refused(openai.NotFoundError, lambda question=question: other.chat.completions.create(**question))
        assert said == f"No such model: {name}."


def test_an_engine_that_has_the_name_of_a_base_model_serves_it(
    client: OpenAI, engine: Engine, serves: Callable[..., None], ask: Ask
) -> None:
    serves(PLAIN)
    assert ask(PLAIN).choices[0].message.content == "flour, eggs"
    assert [each.id for each in client.models.list()].count(PLAIN) == 1


def test_what_a_person_scaled_to_nothing_is_no_model(
    kubectl: Kubectl, client: OpenAI, serves: Callable[..., None], ask: Ask
) -> None:
    serves(pods=0, replicas=0)
    assert "chat" not in [each.id for each in client.models.list()]
    assert refused(openai.NotFoundError, ask) == "No such model: chat."
    assert json.loads(kubectl("get", "eng", "chat", "-o", "json"))["spec"]["replicas"] == 0


@pytest.mark.usefixtures("sleeps")
def test_a_question_wakes_an_engine_and_waits_for_it(
    kubectl: Kubectl, client: OpenAI, engine: Engine, serves: Callable[..., None], ask: Ask, pool: ThreadPoolExecutor
) -> None:
    assert "chat" in [each.id for each in client.models.list()]
    answer = pool.submit(ask)
    woken(kubectl)
    assert not answer.done()
    # Beyond as many as may wait (of a namespace, half of them), others are told when to come again.
    with pytest.raises(openai.RateLimitError) as busy:
        ask()
    assert busy.value.response.headers.items() >= RETRY.items()
    said = "The questions that wait for a model to wake are as many as are taken at a time (2): try again in a moment."
    assert busy.value.body == {"message": said, "type": "rate_limit_error", "param": None, "code": "too_many_requests"}
    assert not engine.asked
    awake(kubectl, serves)
    assert answer.result(PATIENCE).choices[0].message.content == "flour, eggs"
    # Once it is awake, answers are streamed as they come.
    with ask(stream=True) as pieces:
        assert next(iter(pieces)).choices[0].delta.content == "flour"
        engine.go_on()
        assert [each.choices[0].delta.content for each in pieces] == [", eggs"]


def test_what_is_promoted_on_an_engine_wakes_it(
    kubectl: Kubectl, engine_url: str, serves: Callable[..., None], sleeps: None, ask: Ask, pool: ThreadPoolExecutor
) -> None:
    on_engine(kubectl, engine_url)
    answer = pool.submit(ask, "recipes")
    awake(kubectl, serves)
    assert answer.result(PATIENCE).model == "recipes"


class TestOfThoseThatWait:
    @pytest.fixture
    def waits(self) -> dict[str, int]:
        return {"waiting": 1, "wait_seconds": 600}

    @pytest.mark.usefixtures("sleeps")
    def test_who_leaves_gives_the_place_back(
        self, kubectl: Kubectl, url: str, engine: Engine, serves: Callable[..., None], pool: ThreadPoolExecutor
    ) -> None:
        body = json.dumps({"model": "chat", "messages": QUESTION}).encode()
        address = httpx.URL(url)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n"
        with socket.create_connection((address.host, address.port)) as leaving:
            leaving.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            woken(kubectl)
            assert self.answer(url, body).status_code == 429
        # It sleeps again, so that the next one has to wait, too.
        serves(pods=0, replicas=0, idleAfter="30m")
        later: Future[httpx.Response] = pool.submit(self.taken, url, body)
        awake(kubectl, serves)
        assert later.result(PATIENCE).json()["choices"][0]["message"]["content"] == "flour, eggs"
        assert len(engine.asked) == 1

    def answer(self, url: str, body: bytes) -> httpx.Response:
        headers = {"Authorization": f"Bearer {KEY}"}
        return httpx.post(f"{url}/chat/completions", content=body, headers=headers, timeout=PATIENCE)

    def taken(self, url: str, body: bytes) -> httpx.Response:
        """It may take the server a moment to see that somebody has left."""
        answers = (self.answer(url, body) for _ in itertools.count())
        return next(found for found in answers if found.status_code != 429)


class TestLate:
    @pytest.fixture
    def waits(self) -> dict[str, int]:
        return {"waiting": 2, "wait_seconds": 1}

    def test_one_that_takes_too_long_is_to_be_asked_again(self, sleeps: None, ask: Ask) -> None:
        with pytest.raises(openai.RateLimitError) as late:
            ask()
        assert late.value.response.headers.items() >= RETRY.items()
        said = "Model chat wakes up, which takes longer than 1 seconds: try again in a moment."
        assert late.value.body == {
            "message": said,
            "type": "rate_limit_error",
            "param": "model",
            "code": "model_waking",
        }


class TestOfThoseThatCanNotStart:
    @pytest.fixture
    def waits(self) -> dict[str, int]:
        # It has to be looked at once within that time.
        return {"waiting": 2, "wait_seconds": 4}

    def test_one_says_why(self, serves: Callable[..., None], ask: Ask) -> None:
        serves(pods=0, ready="False", message="No node has what the pod asks for.", replicas=0, idleAfter="30m")
        said = refused(openai.InternalServerError, ask)
        assert said == "Model chat can't be woken now: No node has what the pod asks for."
