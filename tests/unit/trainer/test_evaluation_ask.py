"""In which order contenders are asked."""

from finetune_trainer.evaluation.ask import TURN, AnswerRequest, interleaved
from finetune_trainer.evaluation.contenders import Prompt


def requests(name: str, rows: int) -> list[AnswerRequest]:
    return [AnswerRequest(name, row, name, Prompt("pie?", 0), 9) for row in range(rows)]


def turns(order: list[AnswerRequest]) -> list[str]:
    """Whose turn it was."""
    names = [request.contender for request in order]
    return [name for before, name in zip([None, *names], names, strict=False) if name != before]


def test_contenders_take_turns_and_each_round_begins_with_another() -> None:
    found = interleaved([requests(name, 3 * TURN) for name in ("tuned", "zero-shot", "retrieval")])
    assert turns(found) == [
        "tuned",
        "zero-shot",
        "retrieval",
        "zero-shot",
        "retrieval",
        "tuned",
        "retrieval",
        "tuned",
        "zero-shot",
    ]


def test_every_row_is_asked_once() -> None:
    contenders = [requests("tuned", 2 * TURN + 3), requests("retrieval", TURN - 1), requests("few-shot", 0)]
    found = [(request.contender, request.row) for request in interleaved(contenders)]
    assert sorted(found) == sorted((each.contender, each.row) for rows in contenders for each in rows)


def test_nobody_is_asked_nothing() -> None:
    assert interleaved([]) == []
