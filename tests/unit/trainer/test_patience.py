"""When a request is made again, and after how long."""

import httpx
import pytest
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data.patience import LONGEST, Patience, given, persistent

REQUEST = httpx.Request("GET", "https://host/file")


def answered(status: int, **headers: str) -> httpx.HTTPError:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.HTTPStatusError("", request=REQUEST, response=httpx.Response(status, headers=told, request=REQUEST))


def test_waits_double_and_end() -> None:
    patience = Patience(tries=4, wait=0.5)
    assert [patience.pause(answered(503), tried) for tried in (1, 2, 3, 4)] == [0.5, 1, 2, None]
    assert Patience(tries=99, wait=0.5).pause(answered(503), 50) == LONGEST


def test_a_server_says_how_long_but_not_for_ever() -> None:
    assert Patience().pause(answered(429, Retry_After="7"), 1) == 7
    assert Patience().pause(answered(429, Retry_After="86400"), 1) == LONGEST
    assert Patience().pause(answered(429, Retry_After="Fri, 31 Dec 1999 23:59:59 GMT"), 1) == Patience.wait


@pytest.mark.parametrize(
    ("error", "again"),
    [
        *((answered(status), True) for status in (408, 429, 500, 502, 503, 504)),
        *((answered(status), False) for status in (400, 401, 403, 404, 412, 501)),
        (httpx.ReadTimeout(""), True),
        (httpx.ConnectError(""), True),
        (httpx.RemoteProtocolError(""), True),
        (httpx.UnsupportedProtocol(""), False),
        (httpx.TooManyRedirects(""), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: httpx.HTTPError, again: bool) -> None:
    assert (Patience().pause(error, 1) is not None) == again


def test_what_another_try_gets_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    # Who waited for so long would not be heard of again: the server's word counts.
    monkeypatch.setenv("TRANSFER_WAIT_SECONDS", "3600")
    answers = [answered(429, Retry_After="0"), answered(503, Retry_After="0"), "file"]

    @persistent
    def asked() -> str:
        answer = answers.pop(0)
        if isinstance(answer, httpx.HTTPError):
            raise answer
        return answer

    assert asked() == "file"


def test_a_user_may_have_it_otherwise() -> None:
    told = {"TRANSFER_TRIES": "9", "TRANSFER_WAIT_SECONDS": "0.1", "TRANSFER_TIMEOUT_SECONDS": "600"}
    assert given(told) == Patience(tries=9, wait=0.1, silence=600)
    assert given({}) == Patience()


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_what_is_no_number_is_told(text: str) -> None:
    with pytest.raises(StageError) as found:
        given({"TRANSFER_TRIES": text})
    assert found.value.outcome == Outcome.CONFIG_INVALID
    assert found.value.message == f"TRANSFER_TRIES is {text}: it has to be a number, 0 or more."
