"""OpenAI's own client against the API server: from a file of rows to a model that answers, and what misses its gate."""

from typing import Any

import openai
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJobEvent
from openai_server import BASE, CHAT, KEY, MODELS, PAIR, PLAIN, Engine, Told, refused, rows

GATE = "token_f1 is 0.41, and 0.02 above the best baseline (retrieval, 0.43) was asked for."


def test_from_rows_to_a_model_that_answers(
    client: OpenAI, told: Told, engine: Engine, engine_url: str, namespace: str
) -> None:
    train = client.files.create(file=("train.jsonl", rows(CHAT, CHAT)), purpose="fine-tune")
    held_out = client.files.create(file=("validation.jsonl", rows(CHAT)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=train.id,
        validation_file=held_out.id,
        suffix="Recipe NER",
        seed=7,
        metadata={"team": "kitchen"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5}},
        },
    )
    assert (job.status, job.fine_tuned_model, job.error, job.model) == ("validating_files", None, None, BASE)
    assert (job.training_file, job.validation_file, job.seed) == (train.id, held_out.id, 7)
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (2, "auto")
    spec = told.job(job.id)["spec"]
    assert spec["model"]["source"] == MODELS[BASE]["model"]["source"]
    assert spec["dataset"]["train"]["source"] == f"s3://data/openai/{namespace}/{train.id}.jsonl"
    assert spec["dataset"]["validation"]["source"].endswith(f"{held_out.id}.jsonl")
    assert spec["dataset"]["credentials"] == {"secretRef": {"name": "bucket"}}
    assert (spec["training"]["epochs"], spec["training"]["learningRate"], spec["training"]["seed"]) == (2, 1e-4, 7)
    assert "batchSize" not in spec["training"]

    ready = ("True", "Succeeded", "2 rows.")
    told.status(
        job.id,
        "Training",
        {"DataReady": ready, "Trained": ("Unknown", "Running", "Step 3.")},
        progress={"stage": "train", "step": 3, "totalSteps": 9, "loss": "0.42"},
    )
    assert client.fine_tuning.jobs.retrieve(job.id).status == "running"
    newest = client.fine_tuning.jobs.list_events(job.id, limit=1).data[0]
    assert (newest.message, newest.type) == ("Step 3/9: training loss=0.42", "metrics")
    assert newest.data == {"step": 3, "train_loss": 0.42}

    told.serves(job.id, engine_url)
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert (job.status, job.trained_tokens) == ("succeeded", 1234)
    assert job.finished_at is not None
    assert job.finished_at >= job.created_at
    assert job.fine_tuned_model == f"ft:{BASE}:{namespace}:Recipe NER:{job.id.removeprefix('ftjob-')}"
    messages = [each.message for each in client.fine_tuning.jobs.list_events(job.id)]
    streamed = client.get(
        f"/fine_tuning/jobs/{job.id}/events",
        cast_to=FineTuningJobEvent,
        options={"params": {"stream": "true"}},
        stream=True,
        stream_cls=openai.Stream[FineTuningJobEvent],
    )
    assert [each.message for each in streamed] == messages[::-1]
    assert messages[:2] == [
        "The job has successfully completed",
        f"New fine-tuned model created: {job.fine_tuned_model}",
    ]
    assert messages[-1] == f"Created fine-tuning job: {job.id}"
    (kept,) = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert (kept.step_number, kept.metrics.valid_loss) == (40, 0.47)
    assert kept.fine_tuned_model_checkpoint == f"{job.fine_tuned_model}:ckpt-step-40"

    assert [each.id for each in client.models.list()] == [BASE, PLAIN, job.fine_tuned_model]
    assert client.models.retrieve(job.fine_tuned_model).owned_by == namespace
    answer = client.chat.completions.create(
        model=job.fine_tuned_model, messages=[{"role": "user", "content": "Pancakes?"}]
    )
    assert answer.choices[0].message.content == "flour, eggs"
    assert client.completions.create(model=job.fine_tuned_model, prompt="Pancakes?").choices[0].text == "flour, eggs"
    assert [each["model"] for each in engine.asked] == [job.id.removeprefix("ftjob-")] * 2
    assert not any(KEY in value for headers in engine.headers for value in headers.values())

    assert client.models.delete(job.fine_tuned_model).deleted
    assert told.job(job.id)["spec"]["hosting"]["enabled"] is False
    again = client.fine_tuning.jobs.create(model=job.fine_tuned_model, training_file=train.id)
    assert told.job(again.id)["spec"]["model"] == {
        "source": f"ftj://{job.id.removeprefix('ftjob-')}",
        "trustRemoteCode": False,
    }


def test_what_misses_the_gate_is_failed_with_the_gates_sentence(client: OpenAI, told: Told, train: str) -> None:
    job = client.fine_tuning.jobs.create(model=BASE, training_file=train)
    done = ("True", "Succeeded", "It is done.")
    told.status(
        job.id,
        "Rejected",
        {
            "DataReady": done,
            "Trained": done,
            "Evaluated": ("False", "GateNotMet", GATE),
            "Ready": ("False", "GateNotMet", f"Evaluated: {GATE}"),
        },
        revision="7f3c9a1e",
    )
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert (job.status, job.fine_tuned_model) == ("failed", None)
    assert job.error is not None
    assert (job.error.code, job.error.message, job.error.param) == ("gate_not_met", GATE, None)
    assert client.fine_tuning.jobs.list_events(job.id).data[0].message == f"Evaluated: {GATE}"
    model = f"ft:{BASE}:{job.organization_id}::{job.id.removeprefix('ftjob-')}"
    assert refused(openai.NotFoundError, lambda: client.models.retrieve(model)) == f"No such model: {model}."
    assert [each.id for each in client.models.list()] == [BASE, PLAIN]


def dpo(**hyperparameters: Any) -> dict[str, Any]:
    return {"method": {"type": "dpo", "dpo": {"hyperparameters": hyperparameters}}}


def test_preferences_and_a_tracker(client: OpenAI, lenient: OpenAI, told: Told) -> None:
    pairs = client.files.create(file=("pairs.jsonl", rows(PAIR)), purpose="fine-tune").id
    tracked: Any = [{"type": "mlflow", "mlflow": {"project": "recipes"}}]
    asked: dict[str, Any] = dpo(beta=0.2, n_epochs="auto")
    job = lenient.fine_tuning.jobs.create(model=BASE, training_file=pairs, integrations=tracked, **asked)
    training = told.job(job.id)["spec"]["training"]
    assert (training["method"], training["dpo"]["beta"], "epochs" in training) == ("dpo", 0.2, False)
    assert training["tracking"] == {"type": "mlflow", "url": "https://mlflow.example.com", "project": "recipes"}
    assert job.method is not None
    assert job.method.dpo is not None
    assert job.method.dpo.hyperparameters is not None
    assert job.method.dpo.hyperparameters.beta == 0.2
