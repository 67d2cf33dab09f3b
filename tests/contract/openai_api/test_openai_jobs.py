"""Jobs by OpenAI's client: paused, listed, and refused with a sentence where something can't be honoured."""

import json
from functools import partial
from typing import Any

import openai
import openai_server
import pytest
from control_plane import ControlPlane, Kubectl
from finetune_operator.shell.connection import connect
from finetune_server.cluster import ClusterJobs
from finetune_server.errors import Problem
from kubernetes.aio.client.api.custom_objects_api import CustomObjectsApi
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.config import kube_config
from openai import OpenAI
from openai_server import BASE, KEY, PAIR, PLAIN, Keyring, Told, refused, rows

BY_HAND: dict[str, Any] = {
    "apiVersion": "finetune.dev/v1alpha1",
    "kind": "FineTuneJob",
    "spec": {"model": {"source": "hf://acme/a"}, "dataset": {"train": {"source": "pvc://rows/a.jsonl"}}},
}


def test_a_job_is_paused_resumed_and_cancelled(client: OpenAI, lenient: OpenAI, told: Told, train: str) -> None:
    job = client.fine_tuning.jobs.create(model=BASE, training_file=train)
    jobs = client.fine_tuning.jobs
    assert lenient.fine_tuning.jobs.pause(job.id).status == "paused"
    assert told.job(job.id)["spec"]["suspend"] is True
    wrong = refused(openai.BadRequestError, lambda: jobs.pause(job.id))
    assert wrong == "The job is paused, and can't be paused: only one that is under way can be."
    assert jobs.resume(job.id).status == "validating_files"
    assert told.job(job.id)["spec"]["suspend"] is False
    wrong = refused(openai.BadRequestError, lambda: jobs.resume(job.id))
    assert wrong == "The job is validating_files, and can't be resumed: only one that is paused can be."
    cancelled = jobs.cancel(job.id)
    assert cancelled.status == "cancelled"
    assert cancelled.finished_at is not None
    assert told.job(job.id)["spec"]["suspend"] is True
    cancel, resume = "only one that is under way can be", "only one that is paused can be"
    for change, word, only in ((jobs.cancel, "cancelled", cancel), (jobs.resume, "resumed", resume)):
        wrong = refused(openai.BadRequestError, lambda change=change: change(job.id))
        assert wrong == f"The job is cancelled, and can't be {word}: {only}."


@pytest.mark.usefixtures("granted")
async def test_a_job_that_has_changed_meanwhile_is_left_as_it_is(
    control_plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where one cancels and another resumes at the same moment."""
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(control_plane.kubeconfig(openai_server.USER)))
    async with ApiClient(await connect()) as client:
        jobs = ClusterJobs(CustomObjectsApi(client))
        raw = await jobs.create(BY_HAND | {"metadata": {"name": "by-hand", "namespace": namespace}})
        assert (await jobs.patch(raw, {"spec": {"suspend": True}}))["spec"]["suspend"] is True
        with pytest.raises(Problem) as found:
            await jobs.patch(raw, {"spec": {"suspend": False}})
        assert (found.value.status, found.value.message) == (409, "The job has changed meanwhile: try again.")


def test_another_replica_answers_alike(client: OpenAI, control_plane: ControlPlane, keys: Keyring, train: str) -> None:
    job = client.fine_tuning.jobs.create(model=BASE, training_file=train, suffix="recipes")
    settings = openai_server.settings("s3://data/openai", keys.directory)
    with (
        openai_server.serving(control_plane, settings) as url,
        OpenAI(base_url=url, api_key=KEY, max_retries=0) as other,
    ):
        assert other.fine_tuning.jobs.retrieve(job.id) == job
        assert other.files.retrieve(train) == client.files.retrieve(train)


def test_jobs_are_listed_newest_first_by_page_and_by_metadata(client: OpenAI, kubectl: Kubectl, train: str) -> None:
    made = [
        client.fine_tuning.jobs.create(model=PLAIN, training_file=train, metadata={"number": str(number)}).id
        for number in range(3)
    ]
    annotations = {"finetune.dev/openai-request": "nonsense"}
    kubectl("create", "-f-", document=BY_HAND | {"metadata": {"name": "by-hand", "annotations": annotations}})
    jobs = client.fine_tuning.jobs
    assert {each.id for each in jobs.list(limit=1)} == {*made, "ftjob-by-hand"}
    assert jobs.list(limit=1).has_more
    assert not jobs.list(limit=4).has_more
    assert [each.id for each in jobs.list(metadata={"number": "1"})] == [made[1]]
    assert jobs.retrieve("ftjob-by-hand").training_file == "pvc://rows/a.jsonl"
    times = [each.created_at for each in jobs.list()]
    assert times == sorted(times, reverse=True)
    for asked, sentence in (
        ({"limit": 0}, "limit must be a number from 1 to 100, not 0."),
        ({"after": "ftjob-no"}, "after names ftjob-no, which is not in the list: begin anew without it."),
        ({"extra_query": {"before": "x"}}, "before is not known here, and nothing is ignored: remove it."),
    ):
        assert refused(openai.BadRequestError, lambda asked=asked: jobs.list(**asked)) == sentence
    # The client leaves out what is empty; others send it.
    for empty, sentence in (
        ("after", "after is empty, and names nothing: begin anew without it."),
        ("limit", "limit must be a number from 1 to 100, not empty."),
    ):
        ask = partial(client.get, f"/fine_tuning/jobs?{empty}=", cast_to=object)
        assert refused(openai.BadRequestError, ask) == sentence
    for name in ("ftjob-none", "by-hand", "ftjob-A/../b"):
        wrong = refused(openai.NotFoundError, lambda name=name: jobs.retrieve(name))
        assert wrong in (f"No such fine-tuning job: {name}.", f"GET /v1/fine_tuning/jobs/{name} is not known here.")


def supervised(**hyperparameters: Any) -> dict[str, Any]:
    return {"method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}}


def dpo(**hyperparameters: Any) -> dict[str, Any]:
    return {"method": {"type": "dpo", "dpo": {"hyperparameters": hyperparameters}}}


THERE = f"those that can be fine-tuned here are {BASE}, {PLAIN}, and what came of them"
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"model": "gpt-9"}, f"gpt-9 is no base model here: {THERE}."),
    "no model": ({"model": ""}, f"model is empty: {THERE}."),
    "method": (
        {"method": {"type": "reinforcement", "reinforcement": {}}},
        "method reinforcement is no method here: supervised and dpo are.",
    ),
    "epochs": (supervised(n_epochs=51), "method.supervised.hyperparameters.n_epochs must be less than or equal to 50."),
    "type": (
        supervised(batch_size="many"),
        "method.supervised.hyperparameters.batch_size must be a valid integer.",
    ),
    "beta": (
        supervised(beta=0.1),
        "method.supervised.hyperparameters.beta is not known here, and nothing is ignored: remove it.",
    ),
    "unknown": ({"extra_body": {"tier": "fast"}}, "tier is not known here, and nothing is ignored: remove it."),
    "multiplier": (
        {"model": PLAIN, **supervised(learning_rate_multiplier=2.0)},
        f"learning_rate_multiplier multiplies the learning rate of {PLAIN}, and the table of base models has none for "
        "it: leave it out, and one is chosen; or ask who runs this server for training.learningRate.",
    ),
    "rate": (
        supervised(learning_rate_multiplier=1e6),
        "What this asks for can't be: spec.training.learningRate: must be less than or equal to 1 (it is 200.0).",
    ),
    "wandb": (
        {"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]},
        f"Integration wandb can't be had: {BASE} has no key of Weights & Biases in the table of base models: ask who "
        "runs this server for one.",
    ),
    "another tracker": (
        {"integrations": [{"type": "comet"}]},
        "Integration comet can't be had: it is not there: mlflow, tensorboard, trackio and wandb are.",
    ),
    "mlflow": (
        {"model": PLAIN, "integrations": [{"type": "mlflow"}]},
        f"Integration mlflow can't be had: {PLAIN} has no MLflow server in the table of base models: ask who runs this "
        "server for one.",
    ),
    "trackers": (
        {"integrations": [{"type": "tensorboard"}, {"type": "mlflow"}]},
        "A job has one tracker: name one integration.",
    ),
    "rows": (
        dpo(beta=0.2),
        "Method dpo learns from rows of preferences (input, preferred_output, non_preferred_output), and training_file "
        "has rows of format chat: name another file, or another method.",
    ),
}


def test_what_cant_be_honoured_is_refused(client: OpenAI, kubectl: Kubectl, train: str) -> None:
    for asked, sentence in WRONG.values():
        given = {"model": BASE, "training_file": train, **asked}
        assert refused(openai.BadRequestError, lambda given=given: client.fine_tuning.jobs.create(**given)) == sentence
    gone = f"file-{'0' * 32}"
    wrong = refused(
        openai.NotFoundError,
        lambda: client.fine_tuning.jobs.create(model=BASE, training_file=train, validation_file=gone),
    )
    assert wrong == f"No such file: {gone}."
    pairs = client.files.create(file=("pairs.jsonl", rows(PAIR)), purpose="fine-tune").id
    wrong = refused(openai.BadRequestError, lambda: client.fine_tuning.jobs.create(model=BASE, training_file=pairs))
    assert wrong == (
        "Method supervised learns from answers, and training_file has rows of format openai-preference: name another "
        "file, or another method."
    )
    assert json.loads(kubectl("get", "ftj", "-o", "json"))["items"] == []
