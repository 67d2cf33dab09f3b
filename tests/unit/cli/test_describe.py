"""`finetune describe` and `list`: whole screens, and that each state says where, why and what next."""

from datetime import timedelta

import pytest
from finetune_cli.advice import advice
from finetune_cli.describe import described, listed
from finetune_cli.words import age, where, why
from rich.console import Console, RenderableType
from statuses import NOW, Raw, ended, job, serving, status, training

SERVING = """\
kitchen/recipes  3h old
Where is it      Serving · revision bbbb0002
Why              http://recipes.kitchen.svc/v1 answers as model recipes with revision bbbb0002. (Serving)
What next        `finetune chat recipes` asks it.
                 `finetune report recipes` tells whether it was worth it.

Model     134,515,008 parameters, context 8,192, commit 12fd25f77366
Data      900 rows to train on, 100 validation, 200 test
          182,344 tokens, the longest row 431; format chat
Plan      120 steps of 16 rows, at most 512 tokens a row, learning rate 2e-4, 3.1Gi of memory
          learningRate: usual for lora
Took      547,032 tokens in 5m12s, 0.09 accelerator hours
Artifact  s3://models/recipes/bbbb0002 (19.5 MB)
Endpoint  http://recipes.kitchen.svc/v1, model recipes

     CONDITION   REASON      SINCE   MESSAGE
 ────────────────────────────────────────────────────────────────────────────────────────────────────────────
 ✔   Accepted    Accepted    14m     The manifest is accepted.
 ✔   DataReady   Succeeded   14m     900 rows to train on.
 ✔   Trained     Succeeded   14m     Trained in 120 steps.
 -   Published   Disabled    14m     output.destination is not set.
 -   Merged      Disabled    14m     hosting.adapter is not merged, or train merges it.
 ✔   Hosted      Succeeded   14m     The engine answers.
 ✔   Evaluated   Succeeded   14m     token_f1 0.925 against 0.380.
 ✔   Promoted    Succeeded   14m     Service recipes points at bbbb0002.
 ✔   Ready       Serving     14m     http://recipes.kitchen.svc/v1 answers as model recipes with revision
                                     bbbb0002.

Measured on 200 test rows; it passes the gate.

             token_f1   prompt tokens a request
 ──────────────────────────────────────────────
 tuned       0.925      45.0
 zero-shot   0.000      45.0
 few-shot    0.380      410.0


 REVISION   OUTCOME      METRIC           ARTIFACT
 ─────────────────────────────────────────────────────────────────────
 bbbb0002   Serving      token_f1 0.925   s3://models/recipes/bbbb0002
 cccc0003   Rejected     token_f1 0.200   s3://models/recipes/bbbb0002
 dddd0004   Failed
 aaaa0001   Superseded   token_f1 0.800   s3://models/recipes/bbbb0002
"""
LISTED = """\
NAME      PHASE      PROGRESS   METRIC           BEST BASELINE    ENDPOINT                        AGE
─────────────────────────────────────────────────────────────────────────────────────────────────────
recipes   Serving               token_f1 0.925   few-shot 0.380   http://recipes.kitchen.svc/v1   3h
recipes   Training   40/120                                                                       3h
"""


def screen(found: RenderableType) -> str:
    console = Console(width=110, color_system=None)
    with console.capture() as capture:
        console.print(found)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def test_how_busy_its_own_engine_is_stands_below_the_endpoint() -> None:
    busy = {"running": 3, "waiting": 1, "cacheUsed": "0.41", "at": "2026-01-01T00:00:00Z"}
    shown = screen(described(job(serving(replicas=2, availableReplicas=1, requests=busy)), NOW))
    told = "1 of 2 pods answer; 3 requests under way, 1 waiting, 41% of the cache taken"
    assert f"Endpoint  http://recipes.kitchen.svc/v1, model recipes\n          {told}\n" in shown
    starting = screen(described(job(serving(replicas=1, availableReplicas=0)), NOW))
    assert "          0 of 1 pods answer\n" in starting


def test_the_screen_of_a_job_that_serves() -> None:
    assert screen(described(job(serving()), NOW)).strip() == SERVING.strip()


def test_the_list() -> None:
    assert screen(listed([job(serving()), job(training())], NOW)).strip() == LISTED.strip()
    assert "There is no FineTuneJob in this namespace" in screen(listed([], NOW))


def test_while_it_trains_progress_and_what_serves_meanwhile_are_told() -> None:
    found = job(training())
    assert where(found, NOW) == (
        "Training · revision bbbb0002 · step 40/120 · loss 0.420 · 1,480 tokens/s · 2:10 left"
        " · revision aaaa0001 serves"
    )
    assert "Trained: The train Job is running." in why(found)


def test_a_manifest_that_the_operator_has_not_seen_yet_is_not_told_from_an_old_status() -> None:
    assert why(job(serving(), generation=2)).startswith("The operator has not looked at the manifest as it is now")
    assert why(job({})).startswith("No operator has looked at it yet")


def test_kept_checkpoints_are_in_the_history_by_the_name_that_promote_takes() -> None:
    kept = [
        {"name": name, "step": step, "validationLoss": "0.31", "uri": "pvc://c", "digest": "d", "bytes": 1}
        for name, step in (("bbbb0002", 120), ("bbbb0002@80", 80))
    ]
    shown = screen(described(job(serving(checkpoints=kept)), NOW))
    assert "bbbb0002@80   kept checkpoint   validation loss 0.31" in shown


BAD_ROWS = ended("Failed", "DataReady", "DataInvalid", "train.jsonl:3: no messages.")
PENDING = ended("Blocked", "DataReady", "SecretNotFound", "Secret hub is not there.")
MISSED = ended("Rejected", "Evaluated", "GateNotMet", "It misses gate.minimum.", history=serving()["history"])
STOPPED = ended("Suspended", "Trained", "Suspended", "spec.suspend is true.", "Unknown")
PINNED = status(changed={"Ready": ("True", "Pinned", "Service recipes points at aaaa0001.")}, servedRevision="aaaa0001")
ADAPTER_IN_ITS_PLACE = status(
    "Failed",
    {
        "Merged": ("False", "AnswersDiffer", "2 of 32 answers differ."),
        "Hosted": ("False", "EngineFailed", "The engine ended."),
        "Ready": ("False", "EngineFailed", "Hosted: The engine ended."),
    },
)


@pytest.mark.parametrize(
    ("document", "idle", "typed"),
    [
        (training(), False, "`finetune logs recipes --follow`"),
        (BAD_ROWS, False, "`finetune retry recipes`"),
        (BAD_ROWS, False, "`finetune logs recipes` has what prepare wrote"),
        (BAD_ROWS, True, "`finetune run` of its manifest"),
        (ADAPTER_IN_ITS_PLACE, False, "`finetune logs recipes` has what host wrote"),
        (PENDING, False, "it goes on by itself"),
        (ended("Invalid", "Accepted", "ObjectNotFound", "ConfigMap rows is not there."), False, "apply it again"),
        (STOPPED, False, "`finetune resume recipes`"),
        (STOPPED, True, "`finetune run`"),
        (MISSED, False, "`finetune promote recipes` serves it all the same"),
        (serving(), False, "`finetune report recipes`"),
        (status("Succeeded", artifact=serving()["artifact"]), False, "`finetune fetch recipes`"),
    ],
)
def test_each_state_has_a_line_to_type(document: Raw, idle: bool, typed: str) -> None:
    assert typed in " ".join(advice(job(document, idle)))


def test_what_a_person_has_pinned_can_be_unpinned() -> None:
    assert "`finetune promote recipes --unpin`" in " ".join(advice(job(PINNED, promote="aaaa0001")))
    assert "--unpin" not in " ".join(advice(job(serving())))


def test_a_reward_model_is_posted_to_and_not_chatted_with() -> None:
    told = advice(job(serving() | {"endpoint": {"url": "http://recipes.kitchen.svc/classify", "model": "recipes"}}))
    assert (
        told[0]
        == "A whole chat that is posted to http://recipes.kitchen.svc/classify is rated: docs/methods.md shows how."
    )
    assert "finetune chat" not in " ".join(told)


@pytest.mark.parametrize(("seconds", "told"), [(5, "5s"), (125, "2m5s"), (3600, "1h"), (93_600, "1d2h")])
def test_an_age_has_the_two_units_that_matter(seconds: int, told: str) -> None:
    assert age(NOW - timedelta(seconds=seconds), NOW) == told
