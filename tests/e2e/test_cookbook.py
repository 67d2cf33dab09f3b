"""OpenAI's cookbook (examples/openai-cookbook) as it lies there: from rows to a model that answers by its name."""

import re

from cookbook import KEY, MODEL
from kube import ROOT, SYSTEM, apply, get, wait
from recipes import EXAMPLE, run_script, said
from stages import READY_SECONDS

TUTORIAL = ROOT / "examples" / "openai-cookbook" / "tutorial.py"


def test_code_that_was_written_for_openai_tunes_a_model_and_asks_it(namespace: str) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "notebook", "namespace": namespace}}
    settings = {
        "OPENAI_BASE_URL": f"http://finetune-operator-api.{SYSTEM}.svc/v1",
        "OPENAI_API_KEY": KEY,
        "TUTORIAL_RECIPES": "/client",
        "TUTORIAL_SECONDS": "0.5",
    }
    apply(secret | {"stringData": settings})
    rows = {
        name: "".join((EXAMPLE / name).read_text().splitlines(keepends=True)[:count])
        for name, count in {"train.jsonl": 25, "test.jsonl": 1}.items()
    }
    run_script(namespace, "notebook", TUTORIAL, files=rows, settings="notebook")
    told = said(namespace, "notebook", READY_SECONDS)
    # Rows are checked as they come.
    assert "wrong.jsonl:2: messages is empty\n" in told
    created = re.search(r"^Job ftjob-(\S+): validating_files$", told, re.MULTILINE)
    assert created, told
    name = created[1]
    model = f"ft:{MODEL}:{namespace}:recipe-ner:{name}"
    for line in (
        f"  Created fine-tuning job: ftjob-{name}\n",
        f"  New fine-tuned model created: {model}\n",
        "  The job has successfully completed\n",
        f"{model} deleted: True\n",
    ):
        assert line in told
    # Of random weights it says anything; its engine knows it by the FineTuneJob's name.
    assert re.search(rf"^That was {name}, in [1-9]\d* tokens\.$", told, re.MULTILINE), told
    # It is an ordinary FineTuneJob, which kubectl shows.
    source = get("ftj", name, namespace)["spec"]["dataset"]["train"]["source"]
    assert source.startswith(f"s3://recipes/openai/{namespace}/")
    wait(namespace, f"ftj/{name}", "jsonpath={.status.phase}=Succeeded", READY_SECONDS)
