"""The page's pure parts: what is shown of a job, what can be done to it, and which field a complaint stands beside."""

import json
from datetime import timedelta
from typing import Any

import pytest
from finetune_cli.differences import differences
from finetune_cli.jobs import job_of
from finetune_server.errors import Problem
from finetune_server.ui import api, door, form, render, rows, views
from finetune_trainer.contract.curve import Point
from starlette.requests import Request
from statuses import HISTORY, NOW, Raw, ended, job, raw, serving, status, training

CHECKPOINTS = [
    {"name": name, "step": step, "validationLoss": "0.31", "uri": "pvc://c", "digest": "d", "bytes": 1}
    for name, step in (("bbbb0002", 120), ("bbbb0002@80", 80))
]


def test_a_job_in_the_list() -> None:
    found = views.line(job(training()), NOW)
    assert (found.phase, found.tone, found.share, found.age) == ("Training", "open", 33, "3h")
    assert found.where.startswith("Training · revision bbbb0002 · step 40/120")
    assert views.line(job(serving()), NOW).baseline == "few-shot 0.380"
    assert views.line(job({}), NOW).share is None


def test_a_jobs_page() -> None:
    found = views.job_view(job(serving(checkpoints=CHECKPOINTS)), NOW)
    assert found.answers
    assert found.evaluation
    assert [(score.name, score.length) for score in found.evaluation.scores] == [
        ("tuned", 92),
        ("zero-shot", 0),
        ("few-shot", 38),
    ]
    assert [step.state for step in found.steps if step.name in ("Trained", "Published")] == ["done", "not wanted"]
    assert (found.history[0].name, found.history[-1].name) == ("bbbb0002", "bbbb0002@80")


def test_the_losses_are_those_of_the_curve_and_of_this_moment() -> None:
    curve = [{"step": 10, "loss": "2.0000"}, {"step": 30, "loss": "1.0000", "validationLoss": "1.5000"}]
    document = training()
    progress = document["progress"]
    found = [Point(10, 2.0, None), Point(30, 1.0, 1.5)]
    now = Point(40, 0.42, None)
    assert views.losses(job(document | {"curve": curve}).status) == [*found, now]
    assert views.losses(job(document).status) == [now]
    assert views.losses(job(document | {"curve": curve, "progress": None}).status) == found
    # A pod that has just started has none, or is said to be where the curve ends already.
    for early in ({"loss": None}, {"step": 30}):
        assert views.losses(job(document | {"curve": curve, "progress": progress | early}).status) == found


def test_a_curve_is_told_in_words() -> None:
    assert views.told([]) == "No loss is known yet."
    assert views.told([Point(1, 2.0, None), Point(2, 1.0, 1.5), Point(3, 0.5, 1.75)]) == (
        "Training loss 2.000 at step 1, 0.500 at step 3. Validation loss is lowest at step 2: 1.500."
    )


def test_manifests_differ_by_field() -> None:
    one = {"model": {"source": "a"}, "training": {"epochs": 3, "sweep": [1]}}
    other = {"model": {"source": "a"}, "training": {"epochs": 5}, "suspend": True}
    found = {each.field: (each.first, each.second) for each in differences(one, other)}
    assert found == {"training.epochs": ("3", "5"), "training.sweep": ("[1]", ""), "suspend": ("", "true")}


PINNED = {"finetune.dev/promote": "aaaa0001"}
SUSPENDED = ended("Suspended", "Trained", "Suspended", "spec.suspend is true.", "Unknown")


@pytest.mark.parametrize(
    ("document", "spec", "annotations", "names"),
    [
        ({}, {}, {}, ["pause", "cancel"]),
        (training(), {}, {}, ["pause", "cancel"]),
        (SUSPENDED, {"suspend": True}, {}, ["resume", "cancel"]),
        (SUSPENDED, {"suspend": True}, {"finetune.dev/openai-cancelled": "2026-01-01T00:00:00Z"}, []),
        (serving(), {}, {}, ["promote", "rollback"]),
        (serving(), {}, PINNED, ["promote", "rollback", "unpin"]),
        (ended("Rejected", "Evaluated", "GateNotMet", "It misses.", history=HISTORY[:1]), {}, {}, ["promote"]),
    ],
)
def test_what_can_be_done_follows_from_the_state(
    document: Raw, spec: Raw, annotations: dict[str, str], names: list[str]
) -> None:
    found = job_of(raw(document, **annotations) | {"spec": spec})
    assert [action.name for action in api.actions(found)] == names
    assert all(action.question.endswith(("?", ".")) for action in api.actions(found))


def test_what_can_be_promoted_is_chosen_from() -> None:
    found = job_of(raw(serving(checkpoints=CHECKPOINTS)))
    (promote,) = [action for action in api.actions(found) if action.name == "promote"]
    assert promote.choices == ("bbbb0002", "cccc0003", "aaaa0001", "bbbb0002@80")


def test_the_base_model_has_its_name_on_the_engine_that_serves() -> None:
    alone, shared = (
        job_of(raw(serving()) | {"spec": spec}) for spec in ({}, {"hosting": {"engine": {"name": "llama"}}})
    )
    assert (api.base_of(alone), api.base_of(shared)) == ("recipes-base", "llama")


FORM = form.Form(
    (
        form.Field("model", "", "spec.model.source"),
        form.Field("epochs", "", "spec.training.epochs", number=True),
        form.Field("name", "", "metadata.name"),
    )
)


@pytest.mark.parametrize(("text", "value"), [("2", 2), ("2e-4", 2e-4), ("many", "many"), (" 3 ", 3)])
def test_numbers_are_numbers_and_what_is_none_is_told_as_it_was_typed(text: str, value: Any) -> None:
    assert form.document(FORM, {"epochs": text, "name": "2", "model": " "}) == {
        "spec": {"training": {"epochs": value}},
        "metadata": {"name": "2"},
    }


def test_complaints_stand_beside_the_field_that_has_them() -> None:
    found = form.refused(
        FORM,
        [
            ("spec.model", "model: is required"),
            ("spec.training.epochs", "one"),
            ("spec.training.epochs", "two"),
            ("", "all"),
        ],
    )
    assert found.errors == {"model": "model: is required", "epochs": "one"}
    assert found.others == ("two", "all")


def test_what_is_typed_is_code_and_everything_is_escaped() -> None:
    assert render.coded("`a <b>` & `c") == "<code>a &lt;b&gt;</code> &amp; <code>c</code>"
    assert render.coded("") == ""


def asking(**headers: str) -> Request:
    raw_headers = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": raw_headers})


def test_a_word_is_one_logins_alone() -> None:
    door.meant(asking(), "secret", door.csrf("secret"))
    for word in (door.csrf("another"), "", None, "é"):
        with pytest.raises(Problem) as found:
            door.meant(asking(), "secret", word)
        assert found.value.status == 403
    with pytest.raises(Problem):
        door.meant(asking(**{"sec-fetch-site": "same-site"}), "secret", door.csrf("secret"))
    assert door.csrf("secret") != door.csrf("secrets")


def test_what_no_operator_has_looked_at_is_shown_too() -> None:
    found = views.job_view(job({}), NOW + timedelta(days=1))
    assert found.why.startswith("No operator has looked at it yet")
    assert found.evaluation is None
    assert views.job_view(job(status()), NOW).facts == ()


def shown(*rows_given: Raw) -> list[tuple[tuple[tuple[str, bool], ...], tuple[tuple[str, bool], ...]]]:
    lines = [json.dumps(row).encode() for row in rows_given]
    return [(row.parts, row.rejected) for row in rows.uploaded(lines, "train.jsonl")]


def test_of_uploaded_rows_the_answers_are_learned() -> None:
    chat = [
        {"role": "user", "content": "Pancakes?"},
        {"role": "assistant", "content": "Hm.", "weight": 0},
        {"role": "assistant", "tool_calls": [{"id": "1"}]},
    ]
    asked, unlearned, call = ("user: Pancakes?\n", False), ("assistant: Hm.\n", False), '{"tool_calls": [{"id": "1"}]}'
    preference = {
        "input": {"messages": chat[:1]},
        "preferred_output": [{"role": "assistant", "content": "eggs"}],
        "non_preferred_output": [{"role": "assistant", "content": "no"}],
    }
    found = shown({"messages": chat}, preference, {"prompt": "a", "completion": "b"})
    assert found == [
        ((asked, unlearned, (f"assistant: {call}\n", True)), ()),
        ((asked, ("assistant: eggs\n", True)), (("assistant: no\n", True),)),
        ((("prompt: a\n", False), ("completion: b\n", True)), ()),
    ]
