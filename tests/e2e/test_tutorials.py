"""Tutorials of examples/ by doors that others built: OpenAI's API, Azure's shape of it, and AutoTrain's YAML.

All three are under way at once, in one namespace: two scripts, as they lie there, in pods, and beside them what
AutoTrain's tutorial says to type.
"""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from finetune_api import KEY, MODEL
from kube import SYSTEM, apply, get, kubeconfig, run, wait
from paths import EXAMPLES
from recipes import EXAMPLE, TINY, run_script, said
from stages import READY_SECONDS
from tutorials import in_order, section, typed

SERVER = f"http://finetune-operator-api.{SYSTEM}.svc"
AUTOTRAIN = "recipe-autotrain"
ROWS = 40
# For kubectl's own hour, and for asking and reading afterwards.
TYPED_SECONDS = 3600 + READY_SECONDS


@pytest.fixture(scope="module")
def begun(namespace: str) -> str:
    """The namespace in which both scripts are under way."""
    rows = {"train.jsonl": recipes(25), "test.jsonl": recipes(1, "test.jsonl")}
    start(namespace, "openai-cookbook", rows, OPENAI_BASE_URL=f"{SERVER}/v1", TUTORIAL_RECIPES="/client")
    sets = ("training_set.jsonl", "validation_set.jsonl")
    rows = {name: (EXAMPLES / "azure-openai" / name).read_text() for name in sets}
    start(namespace, "azure-openai", rows, AZURE_OPENAI_ENDPOINT=SERVER, AZURE_OPENAI_RESOURCE=namespace)
    return namespace


def recipes(count: int, name: str = "train.jsonl") -> str:
    """So many rows of the recipe assistant."""
    return "".join((EXAMPLE / name).read_text().splitlines(keepends=True)[:count])


def start(namespace: str, example: str, files: dict[str, str], **variables: str) -> None:
    """Start an example's script in a pod that has its key."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": example, "namespace": namespace}}
    given = {"OPENAI_API_KEY": KEY, "AZURE_OPENAI_API_KEY": KEY, "TUTORIAL_SECONDS": "0.5"}
    apply(secret | {"stringData": given | variables})
    run_script(namespace, example, EXAMPLES / example / "tutorial.py", files=files, settings=example)


def created(told: str) -> str:
    """The FineTuneJob behind the job that a script has created."""
    found = re.search(r"^Job ftjob-(\S+): validating_files$", told, re.MULTILINE)
    assert found, told
    return found[1]


def test_what_was_autotrains_is_typed_trained_measured_asked_and_reported(begun: str, tmp_path: Path) -> None:
    directory, beside = tmp_path / "autotrain", tmp_path / "recipe-assistant"
    shutil.copytree(EXAMPLES / "autotrain", directory)
    beside.mkdir()
    (beside / "train.jsonl").write_text(recipes(ROWS))
    config = kubeconfig(tmp_path / "kubeconfig", begun)
    to_rows, to_import, *to_serve = typed("autotrain", "On a cluster")
    to_ask = [line.strip() for line in section("autotrain", "On a cluster") if "-n default" in line]
    run(shlex.split(to_rows), directory=directory, KUBECONFIG=config)
    # The hub can't be reached from here.
    run([*shlex.split(to_import), "--model", f"s3://models/{TINY}"], directory=directory)
    edit(directory / "cluster.yaml")
    lines = "\n".join((*to_serve, *to_ask)).replace("-n default", f"-n {begun}")
    told = run(["bash", "-ec", lines], "2 eggs, 100 g flour\n", TYPED_SECONDS, directory, KUBECONFIG=config)

    status = get("ftj", AUTOTRAIN, begun)["status"]
    assert status["dataset"]["rows"] == {"train": 32, "validation": 4, "test": 4}
    found = status["evaluation"]
    assert (found["metric"], set(found["baselines"])) == ("exact_match", {"zero-shot", "few-shot", "retrieval"})
    # What kubectl shows of it, in one line.
    (shown,) = [line for line in told.splitlines() if f"http://{AUTOTRAIN}.{begun}.svc/v1" in line]
    assert found["metricSummary"] in shown
    assert found["bestBaselineSummary"] in shown
    in_order(told, f"finetunejob.finetune.dev/{AUTOTRAIN} condition met", shown)
    assert f"{AUTOTRAIN}, Ctrl-D ends." in told
    assert f"{AUTOTRAIN} refused" not in told
    assert "What was tried without fine-tuning, and how good was it?" in told


def edit(manifest: Path) -> None:
    """What a private bucket wants, and random weights, which find no end; and the README, of an image as it comes."""
    job: dict[str, Any] = yaml.safe_load(manifest.read_text())
    assert job["spec"]["training"].pop("tracking") == {"type": "tensorboard"}
    job["spec"]["model"]["credentials"] = {"secretRef": {"name": "bucket"}}
    job["spec"] |= {"evaluation": {"maxAnswerTokens": 8}, "hosting": {"contextLength": 512}}
    manifest.write_text(yaml.safe_dump(job))


def test_code_that_was_written_for_openai_tunes_a_model_and_asks_it(begun: str) -> None:
    told = said(begun, "openai-cookbook", READY_SECONDS)
    # Rows are checked as they come.
    assert "wrong.jsonl:2: messages is empty\n" in told
    name = created(told)
    model = f"ft:{MODEL}:{begun}:recipe-ner:{name}"
    in_order(
        told,
        f"  Created fine-tuning job: ftjob-{name}",
        f"  New fine-tuned model created: {model}",
        "  The job has successfully completed",
        f"{model} deleted: True",
    )
    # Of random weights it says anything; its engine knows it by the FineTuneJob's name.
    assert re.search(rf"^That was {name}, in [1-9]\d* tokens\.$", told, re.MULTILINE), told
    # It is an ordinary FineTuneJob, which kubectl shows.
    source = get("ftj", name, begun)["spec"]["dataset"]["train"]["source"]
    assert source.startswith(f"s3://recipes/openai/{begun}/")
    wait(begun, f"ftj/{name}", "jsonpath={.status.phase}=Succeeded", READY_SECONDS)


def test_code_that_was_written_for_azure_deploys_what_it_tuned_asks_it_and_deletes_it(begun: str) -> None:
    told = said(begun, "azure-openai", READY_SECONDS)
    name = created(told)
    model = f"ft:{MODEL}:{begun}:keeper:{name}"
    in_order(
        told,
        "training_set.jsonl: 20 examples, the first of which is",
        "validation_set.jsonl: 8 examples, the first of which is",
        f"  Created fine-tuning job: ftjob-{name}",
        f"  New fine-tuned model created: {model}",
        "  The job has successfully completed",
        f"Model {model}",
        "Deployment lighthouse-keeper: Creating",
        "Deployment lighthouse-keeper: Succeeded",
        "Deployments left: 0",
    )
    assert "\n  DataReady: 18 rows to train on, 8 to validate, 2 set aside." in told
    assert re.search(r"Succeeded\nGruff: ", told), told
    # What is deployed no more keeps no engine.
    wait(begun, f"ftj/{name}", "jsonpath={.status.phase}=Succeeded", READY_SECONDS)
    wait(begun, "deployment", "delete", READY_SECONDS, selector=f"finetune.dev/job={name}")
    assert "labels" not in get("ftj", name, begun)["metadata"]
