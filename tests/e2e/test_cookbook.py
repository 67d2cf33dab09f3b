"""The steps of OpenAI's cookbook with OpenAI's own client: from a file of rows to a model that answers by its name."""

import json

from cookbook import KEY, MODEL
from kube import SYSTEM, apply, get, wait
from recipes import EXAMPLE, answers, client
from stages import READY_SECONDS


def test_code_that_was_written_for_openai_tunes_a_model_and_asks_it(namespace: str) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key", "namespace": namespace}}
    apply(secret | {"stringData": {"OPENAI_API_KEY": KEY}})
    rows = [json.loads(line) for line in (EXAMPLE / "train.jsonl").read_text().splitlines()[:20]]
    url = f"http://finetune-operator-api.{SYSTEM}.svc/v1"
    client(namespace, "notebook", "tune", url, MODEL, rows=rows, key="key")
    refused, created, ended, answered, gone = answers(namespace, "notebook", READY_SECONDS)
    # Rows are checked as they come.
    assert refused["status"] == 400
    assert "bad.jsonl:2: messages is empty" in refused["message"]
    name = created["id"].removeprefix("ftjob-")
    assert (created["status"], created["fine_tuned_model"]) == ("validating_files", None)
    assert ended["status"] == "succeeded"
    assert ended["fine_tuned_model"] == f"ft:{MODEL}:{namespace}:recipes:{name}"
    assert ended["events"][-1] == f"Created fine-tuning job: {created['id']}"
    assert "The job has successfully completed" in ended["events"]
    # Of random weights it says anything; its engine knows it by the FineTuneJob's name.
    assert (answered["model"], answered["tokens"] > 0) == (name, True)
    # It is an ordinary FineTuneJob, which kubectl shows.
    assert get("ftj", name, namespace)["spec"]["dataset"]["train"]["source"].startswith(
        f"s3://recipes/openai/{namespace}/"
    )
    assert gone["deleted"]
    wait(namespace, f"ftj/{name}", "jsonpath={.status.phase}=Succeeded", READY_SECONDS)
