"""Models asked by OpenAI's client through the API server: streamed, bounded, and told why where none answers."""

from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from control_plane import PATIENCE
from openai import OpenAI
from openai_server import BASE, KEY, Engine, Told, refused


@pytest.fixture
def most() -> int:
    return 1


def test_answers_are_streamed_as_they_come_and_no_more_at_a_time_than_allowed(
    client: OpenAI, told: Told, train: str, engine: Engine, engine_url: str
) -> None:
    job = client.fine_tuning.jobs.create(model=BASE, training_file=train)
    told.serves(job.id, engine_url)
    model = str(client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model)
    question: Any = {"model": model, "messages": [{"role": "user", "content": "Pancakes?"}]}
    with client.chat.completions.create(**question, stream=True) as pieces:
        first = next(iter(pieces))
        assert first.choices[0].delta.content == "flour"
        busy = refused(openai.RateLimitError, lambda: client.chat.completions.create(**question))
        assert busy == "The questions under way are as many as are taken at a time (1): try again in a moment."
        engine.go_on()
        assert [each.choices[0].delta.content for each in pieces] == [", eggs"]
    # An answer's last word is there a moment before its turn is over.
    patient = client.with_options(max_retries=8)
    raw = patient.chat.completions.with_raw_response.create(**question)
    assert (raw.headers["x-request-id"], raw.headers.get("connection")) == ("abc", None)
    said = refused(openai.BadRequestError, lambda: patient.chat.completions.create(**question, max_tokens=0))
    assert said == "max_tokens must be at least 1"

    engine.left.clear()
    with patient.chat.completions.create(**question, stream=True) as pieces:
        next(iter(pieces))
    assert engine.left.wait(PATIENCE), "The engine goes on for a client that has left."


def test_models_that_cant_be_asked(client: OpenAI, told: Told, train: str, engine: Engine, engine_url: str) -> None:
    job = client.fine_tuning.jobs.create(model=BASE, training_file=train)
    told.serves(job.id, "http://127.0.0.1:9")
    model = str(client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model)

    def ask(model: str) -> Callable[[], object]:
        return lambda: client.chat.completions.create(model=model, messages=[{"role": "user", "content": "a"}])

    said = refused(openai.InternalServerError, ask(model))
    assert said == f"Model {model} does not answer now: try again in a moment."
    assert refused(openai.NotFoundError, ask(BASE)) == f"{BASE} can be fine-tuned here, and is not served by itself."
    assert refused(openai.NotFoundError, ask("gpt-9")) == "No such model: gpt-9."
    assert refused(openai.NotFoundError, ask("")) == "The name of the model is empty: give one."
    kept = f"{model}:ckpt-step-40"
    assert refused(openai.NotFoundError, ask(kept)) == f"No such model: {kept}."
    said = refused(openai.PermissionDeniedError, lambda: client.models.delete(BASE))
    assert said == f"{BASE} is a base model, and not yours to delete."
    for body, sentence in (
        ({"content": b"{"}, "The request's body is not JSON: Expecting property name enclosed in double quotes: line"),
        ({"content": b'{"model": NaN}'}, "The request's body is not JSON: NaN is no number in JSON."),
        ({"json": []}, "The request's body must be a JSON object."),
        ({"json": {}}, "model is required, the name of a model."),
    ):
        headers = {"Authorization": f"Bearer {KEY}"}
        answer = httpx.post(f"{client.base_url}chat/completions", headers=headers, timeout=PATIENCE, **body)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"].startswith(sentence)
    engine.locked = True
    told.serves(job.id, engine_url)
    said = refused(openai.PermissionDeniedError, ask(model))
    assert said == f"{model} asks for a key of its own: ask it at its own address."
