"""Azure OpenAI's paths by its own client, and its tutorial (examples/azure-openai), from rows to a deployment.

On a laptop `local/test_serve` trains it.
"""

import sys
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from control_plane import PATIENCE, ControlPlane
from openai import AzureOpenAI, OpenAI
from openai_server import BASE, CHAT, KEY, Engine, Told, refused, rows
from operator_process import OperatorProcess
from paths import EXAMPLES
from playing import Played
from tutorials import in_order
from walking import walking

VERSION = "2024-10-21"
KEYED = {"api-key": KEY}


@pytest.fixture
def address(url: str) -> str:
    return url.removesuffix("/v1")


@pytest.fixture
def azure(address: str) -> Iterator[AzureOpenAI]:
    with AzureOpenAI(azure_endpoint=address, api_key=KEY, api_version=VERSION, max_retries=0) as found:
        yield found


@pytest.fixture
def management(address: str, namespace: str) -> Iterator[httpx.Client]:
    """Azure's management plane; the deployments of the namespace."""
    account = f"subscriptions/s/resourceGroups/deployments/providers/Microsoft.CognitiveServices/accounts/{namespace}"
    headers, version = {"Authorization": f"Bearer {KEY}"}, {"api-version": VERSION}
    with httpx.Client(base_url=f"{address}/{account}", headers=headers, params=version, timeout=PATIENCE) as found:
        yield found


def wanted(model: str, **sku: Any) -> dict[str, Any]:
    return {
        "sku": {"name": "Standard", "capacity": 1, **sku},
        "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
    }


def said(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status
    return str(answer.json()["error"]["message"])


@pytest.mark.usefixtures("services")
def test_the_tutorial_walks_from_rows_to_a_deployment_and_back(
    address: str,
    operator: OperatorProcess,
    control_plane: ControlPlane,
    namespace: str,
    played: Played,
    engine: Engine,
) -> None:
    """Played is the node alone: the operator is the real one, and so is the script."""
    given = {
        "AZURE_OPENAI_ENDPOINT": address,
        "AZURE_OPENAI_API_KEY": KEY,
        "AZURE_OPENAI_RESOURCE": namespace,
        "TUTORIAL_SECONDS": "0.2",
    }
    made = control_plane.watch(f"/apis/finetune.dev/v1alpha1/namespaces/{namespace}/finetunejobs?watch=true")
    with walking([sys.executable, "-u", str(EXAMPLES / "azure-openai/tutorial.py")], **given) as script:
        played.name = next(made)["object"]["metadata"]["name"]
        played.complete("prepare")
        played.complete("train")
        played.roll_out()
        candidate = "/".join(played.owner("host"))
        played.measure()
        # Nobody has deployed it yet, so what measured it goes.
        played.collect(candidate)
        # Now the script has.
        played.wait(candidate, "create")
        played.roll_out()
        told = script.ends()
    job = played.job()
    model = f"ft:{BASE}:{namespace}:keeper:{played.name}"
    in_order(
        told,
        "training_set.jsonl: 20 examples, the first of which is",
        "validation_set.jsonl: 8 examples, the first of which is",
        f"Job ftjob-{played.name}: validating_files",
        "  DataReady: 270 rows to train on, 30 to validate, 0 set aside.",
        f"  New fine-tuned model created: {model}",
        f"Model {model}",
        "Deployment lighthouse-keeper: Creating",
        "Deployment lighthouse-keeper: Succeeded",
        "Gruff: flour, eggs",
        "Deployments left: 0",
    )
    assert (engine.asked[0]["model"], engine.asked[0]["messages"][1]["content"]) == (played.name, "What is a fathom?")
    assert not any(KEY in value for headers in engine.headers for value in headers.values())
    assert job["spec"]["hosting"]["enabled"] is False
    assert "labels" not in job["metadata"]


def passed(told: Told, job: str, phase: str = "Succeeded", ready: str = "True") -> None:
    """Measured, and as long as nobody deploys it, done."""
    done = ("True", "Succeeded", "It is done.")
    told.status(
        job,
        phase,
        {"DataReady": done, "Trained": done, "Evaluated": done, "Ready": (ready, phase, "As it stands.")},
        observedGeneration=told.job(job)["metadata"]["generation"],
        revision="7f3c9a1e",
    )


@pytest.fixture
def train(azure: AzureOpenAI) -> str:
    return azure.files.create(file=("train.jsonl", rows(CHAT, CHAT)), purpose="fine-tune").id


def tuned(azure: AzureOpenAI, told: Told, train: str) -> tuple[str, str]:
    """A job that has passed its gate, and its model."""
    job = azure.fine_tuning.jobs.create(model=BASE, training_file=train).id
    passed(told, job)
    return job, str(azure.fine_tuning.jobs.retrieve(job).fine_tuned_model)


def test_a_deployment_is_a_label_and_the_last_one_takes_the_engine_with_it(
    azure: AzureOpenAI, management: httpx.Client, told: Told, train: str, engine: Engine, engine_url: str
) -> None:
    job, model = tuned(azure, told, train)
    assert told.job(job)["spec"]["hosting"]["enabled"] is False
    question: Any = {"messages": [{"role": "user", "content": "Pancakes?"}]}
    wrong = refused(openai.NotFoundError, lambda: azure.chat.completions.create(model="keeper", **question))
    assert wrong == "No such deployment: keeper. Deploy a model under that name first."

    made = management.put("deployments/keeper", json=wanted(model))
    assert (made.status_code, made.json()["properties"]["provisioningState"]) == (201, "Creating")
    assert made.json()["id"] == f"{httpx.URL(management.base_url).path}deployments/keeper"
    assert made.json()["properties"]["model"]["name"] == model
    raw = told.job(job)
    assert raw["metadata"]["labels"] == {"deployments.finetune.dev/keeper": "standard"}
    assert raw["spec"]["hosting"]["enabled"] is True
    # What was trained stays so while its engine starts, and if it never does.
    assert azure.fine_tuning.jobs.retrieve(job).fine_tuned_model == model
    passed(told, job, "Failed", "False")
    assert management.get("deployments/keeper").json()["properties"]["provisioningState"] == "Failed"
    assert azure.fine_tuning.jobs.retrieve(job).status == "succeeded"

    again = management.put("deployments/keeper", json=wanted(model, name="GlobalStandard"))
    assert (again.status_code, again.json()["sku"]["name"]) == (200, "globalstandard")
    assert management.put("deployments/Keeper_2.0", json=wanted(model)).status_code == 201
    told.serves(job, engine_url, observedGeneration=told.job(job)["metadata"]["generation"])
    states = {
        each["name"]: each["properties"]["provisioningState"] for each in management.get("deployments").json()["value"]
    }
    assert states == {"Keeper_2.0": "Succeeded", "keeper": "Succeeded"}
    answer = azure.chat.completions.create(model="keeper", **question)
    assert answer.choices[0].message.content == "flour, eggs"
    assert azure.completions.create(model="Keeper_2.0", prompt="Pancakes?").choices[0].text == "flour, eggs"
    with OpenAI(base_url=f"{azure.base_url}v1", api_key=KEY, max_retries=0) as newer:
        for name in ("keeper", model):
            assert newer.chat.completions.create(model=name, **question).choices[0].message.content == "flour, eggs"
    plain = httpx.post(
        f"{azure.base_url}deployments/keeper/completions?api-version={VERSION}",
        json={},
        headers=KEYED,
        timeout=PATIENCE,
    )
    assert plain.status_code == 200
    assert [each["model"] for each in engine.asked] == [job.removeprefix("ftjob-")] * 5

    assert management.delete("deployments/keeper").status_code == 200
    assert told.job(job)["spec"]["hosting"]["enabled"] is True
    assert management.delete("deployments/Keeper_2.0").status_code == 200
    raw = told.job(job)
    assert (raw["spec"]["hosting"]["enabled"], raw["metadata"].get("labels")) == (False, None)
    assert management.delete("deployments/keeper").status_code == 204
    wrong = said(management.get("deployments/keeper"), 404)
    assert wrong == "No such deployment: keeper. Deploy a model under that name first."


def test_a_model_that_is_deleted_is_deployed_no_more(
    azure: AzureOpenAI, client: OpenAI, management: httpx.Client, told: Told, train: str, engine_url: str
) -> None:
    job, model = tuned(azure, told, train)
    assert management.put("deployments/keeper", json=wanted(model)).status_code == 201
    told.serves(job, engine_url)
    assert client.models.delete(model).deleted
    assert management.get("deployments").json() == {"value": []}


def test_deployments_that_cant_be_are_refused(
    azure: AzureOpenAI, management: httpx.Client, told: Told, train: str, namespace: str, address: str
) -> None:
    job, model = tuned(azure, told, train)
    _, other = tuned(azure, told, train)
    young = azure.fine_tuning.jobs.create(model=BASE, training_file=train).id.removeprefix("ftjob-")
    assert management.put("deployments/keeper", json=wanted(other)).status_code == 201
    capacity = wanted(model, capacity=50)
    for name, body, status, sentence in (
        ("a", capacity, 400, "sku.capacity must be 1."),
        ("a", wanted(model, tier="Basic"), 400, "sku.tier is not known here, and nothing is ignored: remove it."),
        (
            "a",
            wanted(f"ft:{BASE}:{namespace}::{young}"),
            404,
            f"No such fine-tuned model: ft:{BASE}:{namespace}::{young}.",
        ),
        ("a", wanted(BASE), 404, f"No such fine-tuned model: {BASE}."),
        (
            "a,b",
            wanted(model),
            400,
            "'a,b' can't be a deployment's name: at most 63 letters, digits, '-', '_' and '.', a letter or digit first "
            "and last.",
        ),
        (
            "keeper",
            wanted(model),
            409,
            f"Deployment keeper is of model {other}: delete it first, or take another name.",
        ),
    ):
        assert said(management.put(f"deployments/{name}", json=body), status) == sentence
    assert "labels" not in told.job(job)["metadata"]
    assert said(management.get("deployments/a,b"), 404).startswith("No such deployment: a,b.")
    elsewhere = str(management.base_url).replace(namespace, "elsewhere")
    wrong = httpx.get(f"{elsewhere}deployments?api-version={VERSION}", headers=KEYED, timeout=PATIENCE)
    assert (
        said(wrong, 403)
        == f"This key opens namespace {namespace}, and not elsewhere: the account in the path is {namespace}."
    )


def test_azures_paths_want_a_version_and_answer_as_openais(azure: AzureOpenAI, client: OpenAI, train: str) -> None:
    assert azure.files.retrieve(train) == client.files.retrieve(train)
    job = azure.fine_tuning.jobs.create(model=BASE, training_file=train)
    assert [each.id for each in azure.fine_tuning.jobs.list(limit=1)] == [job.id]
    assert azure.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    with OpenAI(base_url=f"{azure.base_url}v1", api_key=KEY, max_retries=0) as newer:
        assert newer.fine_tuning.jobs.retrieve(job.id).status == "cancelled"
    for asked, status, sentence in (
        ("files", 400, "api-version is required, such as ?api-version=2024-10-21."),
        ("files?api-version=newest", 400, "api-version newest is no version: send one such as 2024-10-21."),
        (f"files?api-version={VERSION}&before=x", 400, "before is not known here, and nothing is ignored: remove it."),
        (f"models?api-version={VERSION}", 404, "GET /openai/models is not known here."),
    ):
        assert said(httpx.get(f"{azure.base_url}{asked}", headers=KEYED, timeout=PATIENCE), status) == sentence
    assert (
        httpx.get(f"{azure.base_url}v1/files?api-version=preview", headers=KEYED, timeout=PATIENCE).status_code == 200
    )
    for body, sentence in (
        ({"content": b"{"}, "The request's body is not JSON: "),
        ({"json": []}, "The request's body must be a JSON object."),
        ({"json": {}}, "model is required, the name of a deployment."),
    ):
        answer = httpx.post(f"{azure.base_url}v1/chat/completions", headers=KEYED, timeout=PATIENCE, **body)
        assert said(answer, 400).startswith(sentence)
