"""What goes wrong behind the server, in the words that a client is told; what clients do wrong is in contract."""

import json
from contextlib import suppress
from io import BytesIO

import aiohttp
import pytest
from finetune_server.cluster import ClusterJobs
from finetune_server.engines import with_model
from finetune_server.errors import Problem
from finetune_server.files import Files, check, in_bucket
from finetune_server.incoming import Turns, body
from kubernetes.aio.client.exceptions import ApiException
from starlette.requests import Request
from starlette.types import Message


class Answering:
    """An API server that says the same to everything."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def get_namespaced_custom_object(self, **_: object) -> object:
        raise self._error


def said(status: int, message: str) -> ApiException:
    return ApiException(status=status, reason="Reason", body=json.dumps({"message": message}))


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (said(403, "finetunejobs is forbidden"), 403, "The cluster does not allow it: finetunejobs is forbidden"),
        (said(409, "modified"), 409, "The job has changed meanwhile: try again."),
        (said(422, "spec.training: Invalid value"), 400, "spec.training: Invalid value"),
        (said(500, "etcd is gone"), 503, "The cluster does not answer now: etcd is gone"),
        (
            ApiException(status=502, reason="Bad Gateway", body="<html>"),
            503,
            "The cluster does not answer now: 502 Bad",
        ),
        (aiohttp.ClientConnectionError("refused"), 503, "The cluster does not answer: try again in a moment."),
        (TimeoutError(), 503, "The cluster does not answer: try again in a moment."),
    ],
)
async def test_the_clusters_refusals_are_told_as_openais(error: Exception, status: int, message: str) -> None:
    with pytest.raises(Problem) as found:
        await ClusterJobs(Answering(error)).get("kitchen", "recipes")  # type: ignore[arg-type]
    assert found.value.status == status
    assert found.value.message.startswith(message)


async def test_what_is_not_there_is_none() -> None:
    assert await ClusterJobs(Answering(said(404, "not found"))).get("kitchen", "recipes") is None  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [PermissionError("Access Denied"), OSError("no route")])
async def test_a_bucket_that_does_not_answer_is_told_without_its_address(
    error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_BUCKET_AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("FINETUNE_BUCKET_AWS_SECRET_ACCESS_KEY", "b")
    files = Files(in_bucket("s3://rows/openai"))

    def fails(*_: object, **__: object) -> object:
        raise error

    monkeypatch.setattr(files, "_system", type("System", (), {"ls": fails, "cat_file": fails})())
    for asked in (files.ids("kitchen"), files.get("kitchen", f"file-{'0' * 32}")):
        with pytest.raises(Problem) as found:
            await asked
        assert found.value.status == 503
        assert found.value.message == "The place where files are kept does not answer: try again."


def test_turns_are_given_back_whatever_became_of_them() -> None:
    turns = Turns(1, "The uploads under way")
    with turns.turn("kitchen"), pytest.raises(Problem) as found, turns.turn("kitchen"):
        pass
    assert found.value.status == 429
    assert found.value.message == "The uploads under way are as many as are taken at a time (1): try again in a moment."
    with suppress(KeyError), turns.turn("kitchen"):
        raise KeyError
    with turns.turn("kitchen"):
        pass


def test_of_one_namespace_half_are_taken_and_the_others_have_the_rest() -> None:
    turns = Turns(4, "The questions under way")
    with turns.turn("kitchen"), turns.turn("kitchen"):
        with pytest.raises(Problem), turns.turn("kitchen"):
            pass
        with turns.turn("garden"), turns.turn("garden"), pytest.raises(Problem), turns.turn("hall"):
            pass


@pytest.mark.parametrize(("rest", "whole"), [(b"{}", {"model": "a"}), (b'{"n": 1}', {"model": "a", "n": 1})])
def test_a_question_goes_on_with_the_models_own_name(rest: bytes, whole: dict[str, object]) -> None:
    assert json.loads(with_model("a", rest)) == whole


def test_a_row_that_is_too_long_is_refused_before_it_is_read_whole() -> None:
    content = BytesIO(b'{"text": "a"}\n' + b"x" * (5 * 2**20))
    with pytest.raises(Problem) as found:
        check("rows.jsonl", content)
    assert found.value.message == "rows.jsonl:2: is longer than 1,048,576 bytes, more than any row."
    assert content.tell() < 5 * 2**20


async def test_a_body_that_does_not_say_how_long_it_is_ends_where_it_is_too_long() -> None:
    taken: list[int] = []

    async def receive() -> Message:
        taken.append(1)
        return {"type": "http.request", "body": b"x" * 10, "more_body": len(taken) < 9}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(Problem) as found:
        await body(request, 25)
    assert (found.value.status, len(taken)) == (413, 3)
    assert found.value.message == "The request is too large: at most 25 bytes are taken here."
