"""A job's events as a stream: what is told once, and what goes wrong on the way."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from finetune_server.errors import Problem
from finetune_server.streams import followed

Looked = tuple[Sequence[dict[str, Any]], bool]


async def told(looks: Sequence[Looked | Problem], known: Sequence[str] = ()) -> list[Any]:
    left: Iterator[Looked | Problem] = iter(looks)

    async def look() -> Looked:
        found = next(left)
        if isinstance(found, Problem):
            raise found
        return found

    lines = [text.strip() async for text in followed(look, known, 0)]
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")] + [
        line for line in lines if line == "data: [DONE]"
    ]


def events(*ids: str) -> list[dict[str, Any]]:
    return [{"id": id} for id in ids]


async def test_each_event_is_told_once_the_oldest_first_and_the_end_is_marked() -> None:
    looks = [(events("b", "a"), False), (events("c", "b", "a"), False), (events("d", "c", "b", "a"), True)]
    assert await told(looks) == [*events("a", "b", "c", "d"), "data: [DONE]"]
    assert await told(looks, known=("a", "b")) == [*events("c", "d"), "data: [DONE]"]


async def test_a_key_that_was_taken_back_ends_it_with_a_sentence() -> None:
    gone = Problem(401, "The key is not known here.", code="key")
    assert await told([(events("a"), False), gone]) == [*events("a"), gone.document()]
