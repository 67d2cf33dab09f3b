"""The recipe assistant of OpenAI's cookbook (examples/openai-cookbook), from rows to a model that answers by its name.

Played are the node and the engine: operator and script are the real ones. On kind `e2e/test_tutorials` runs it, and
on a laptop `local/test_serve`.
"""

import sys

import pytest
from control_plane import ControlPlane
from openai_server import BASE, KEY, Engine
from paths import EXAMPLES
from playing import Played
from tutorials import in_order
from walking import walking


@pytest.mark.usefixtures("services", "operator")
def test_the_cookbook_walks_from_rows_to_a_model_that_answers(
    url: str, control_plane: ControlPlane, namespace: str, played: Played, engine: Engine
) -> None:
    given = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": KEY, "TUTORIAL_SECONDS": "0.2"}
    made = control_plane.watch(f"/apis/finetune.dev/v1alpha1/namespaces/{namespace}/finetunejobs?watch=true")
    with walking([sys.executable, "-u", str(EXAMPLES / "openai-cookbook/tutorial.py")], **given) as script:
        played.name = next(made)["object"]["metadata"]["name"]
        played.complete("prepare")
        played.complete("train")
        played.roll_out()
        played.measure()
        told = script.ends()
    model = f"ft:{BASE}:{namespace}:recipe-ner:{played.name}"
    in_order(
        told,
        "wrong.jsonl is refused: wrong.jsonl has 1 fault:",
        "wrong.jsonl:2: messages is empty",
        f"Job ftjob-{played.name}: validating_files",
        "  DataReady: 270 rows to train on, 30 to validate, 0 set aside.",
        f"  New fine-tuned model created: {model}",
        f"Model {model}, 30000 tokens trained",
        "Answer:  flour, eggs",
        f"That was {played.name}, in 3 tokens.",
        f"{model} deleted: True",
    )
    (asked,) = engine.asked
    assert [each["role"] for each in asked["messages"]] == ["system", "user"]
    assert played.job()["spec"]["hosting"]["enabled"] is False
