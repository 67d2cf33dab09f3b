"""A request as a FineTuneJob, and a FineTuneJob as OpenAI's object, without a cluster."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from finetune_server import tuning, view
from finetune_server.errors import Problem
from finetune_server.settings import ClusterSettings
from finetune_trainer.contract.config import Format

BASE = tuning.StartingModel(name="small", spec={"model": {"source": "hf://acme/small", "revision": "main"}})
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
WHEN = "2026-11-27T11:00:00Z"


def made(base: tuning.StartingModel = BASE, **asked: Any) -> dict[str, Any]:
    """A FineTuneJob as the API server would have it."""
    request = tuning.read(json.dumps({"model": base.name, "training_file": "file-1", **asked}).encode())
    rows = {"training_file": ("s3://b/kitchen/file-1.jsonl", Format.CHAT)}
    raw = tuning.manifest(request, base, "kitchen", rows, "")
    raw["metadata"] |= {"creationTimestamp": WHEN, "uid": "u"}
    return raw


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (
            {"method": {"type": "supervised", "dpo": {"hyperparameters": {"beta": 0.5}}}},
            "method has dpo, and its type is supervised: remove the one, or change the other.",
        ),
        (
            {"method": {"type": "dpo", "reinforcement": {}}},
            "method has reinforcement, and its type is dpo: remove the one, or change the other.",
        ),
        (
            {
                "hyperparameters": {"n_epochs": 9},
                "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}},
            },
            "The request has hyperparameters twice, by themselves and in method: remove the former.",
        ),
        (
            {"integrations": [{"type": "tensorboard", "wandb": {"project": "x"}}]},
            "integrations.0 has wandb, and its type is tensorboard: remove the one, or change the other.",
        ),
        (
            {"integrations": [{"type": "wandb"}]},
            "integrations.0 needs wandb, with the project that the run goes to.",
        ),
    ],
)
def test_what_would_be_ignored_is_refused(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(Problem) as caught:
        made(**asked)
    assert (caught.value.status, caught.value.message) == (400, told)


def test_each_job_publishes_to_a_place_of_its_own() -> None:
    base = tuning.StartingModel(name="small", spec=BASE.spec | {"output": {"destination": "s3://models/tuned/"}})
    first, second = made(base), made(base)
    for raw in (first, second):
        assert raw["spec"]["output"]["destination"] == f"s3://models/tuned/kitchen/{raw['metadata']['name']}"
    assert first["metadata"]["name"] != second["metadata"]["name"]


def test_what_goes_on_from_a_tuned_model_fits_no_shared_engine() -> None:
    shared = {"hosting": {"engine": {"name": "chat"}}, "output": {"destination": "s3://models/tuned"}}
    base = tuning.StartingModel(name="small", spec=BASE.spec | shared, tuned="recipes-1")
    with pytest.raises(Problem) as caught:
        made(base)
    assert "spec.model.source: can't be ftj:// with hosting.engine" in caught.value.message


def with_status(phase: str = "", suspend: bool = False, **conditions: str) -> dict[str, Any]:
    raw = made()
    raw["spec"]["suspend"] = suspend
    told = [
        {"type": kind, "status": status, "reason": reason, "message": "…", "lastTransitionTime": WHEN}
        for kind, (status, _, reason) in ((kind, found.partition(" ")) for kind, found in conditions.items())
    ]
    raw["status"] = {"phase": phase, "conditions": told}
    return raw


READY = {"DataReady": "True Succeeded"}


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (made(), "validating_files"),
        (with_status("Preparing", DataReady="Unknown Running"), "validating_files"),
        (with_status("Pending", **READY, Trained="Unknown Waiting"), "queued"),
        (with_status("Queued", **READY, Trained="Unknown Queued"), "queued"),
        (with_status("Blocked", **READY, Trained="False Unschedulable"), "queued"),
        (with_status("Training", **READY, Trained="Unknown Running"), "running"),
        (with_status("Evaluating", **READY, Trained="True Succeeded"), "running"),
        (with_status("Suspended", suspend=True, **READY), "paused"),
        (with_status("Suspended", **READY), "queued"),
        (with_status("Failed", Ready="False DataInvalid"), "failed"),
        (with_status("Rejected", **READY, Ready="False GateNotMet"), "failed"),
        (with_status("Invalid", Ready="False Invalid"), "failed"),
        # It begins by itself, and may be cancelled until then.
        (with_status("Invalid", Ready="False ObjectNotFound"), "queued"),
        (with_status("Succeeded", **READY, Ready="True Succeeded"), "succeeded"),
    ],
)
def test_a_status_is_one_of_openais(raw: dict[str, Any], status: str) -> None:
    assert view.status_of(raw) == status
    assert (view.job(raw)["fine_tuned_model"] is not None) == (status == "succeeded")


def test_what_serves_has_succeeded_and_stays_so_while_no_pod_answers() -> None:
    raw = with_status("Hosting", **READY, Trained="True Succeeded", Ready="False EngineUnavailable")
    raw["status"] |= {"revision": "7f3c9a1e", "servedRevision": "7f3c9a1e"}
    assert view.status_of(raw) == "succeeded"
    raw["status"]["revision"] = "another1"
    assert view.status_of(raw) == "running"


def test_bad_rows_are_an_error_of_the_training_file() -> None:
    error = view.job(with_status("Failed", Ready="False DataInvalid"))["error"]
    assert error == {"code": "data_invalid", "message": "…", "param": "training_file"}


def test_a_gate_that_is_missed_is_the_error_where_the_adapter_went_on_for_the_merged_model() -> None:
    raw = with_status("Rejected", Merged="False AnswersDiffer", Evaluated="False GateNotMet", Ready="False GateNotMet")
    assert view.job(raw)["error"]["code"] == "gate_not_met"


def test_what_was_chosen_takes_the_place_of_auto() -> None:
    raw = made(method={"type": "supervised", "supervised": {"hyperparameters": {"batch_size": "auto"}}})
    assert view.job(raw)["hyperparameters"]["batch_size"] == "auto"
    raw["status"] = {"plan": {"batchSize": 8}}
    assert view.job(raw)["hyperparameters"]["batch_size"] == 8


@pytest.mark.parametrize("suffix", ["Recipe NER", "a:b:ckpt-step-1", "../..", "ünï", "x" * 64])
def test_a_models_name_leads_back_to_its_job_whatever_its_suffix(suffix: str) -> None:
    raw = made(suffix=suffix)
    name = raw["metadata"]["name"]
    assert len(name) <= 45
    assert view.job_named_in(view.model_of(raw)) == name
    assert view.job_named_in(f"{view.model_of(raw)}:ckpt-step-12") == name
    assert view.name_of(view.id_of(name)) == name


@pytest.mark.parametrize("id", ["ftjob-", "ftjob-../x", "ftjob-A", "x", f"ftjob-{'x' * 46}", "ftjob-a\n"])
def test_what_is_no_id_names_nothing(id: str) -> None:
    assert view.name_of(id) is None


def test_a_tuned_model_is_gone_on_from_without_the_bases_own_settings() -> None:
    tuned = tuning.StartingModel(name="small", spec=BASE.spec, tuned="recipes-1")
    assert made(tuned)["spec"]["model"] == {"source": "ftj://recipes-1"}


def test_what_a_request_brings_takes_the_place_of_the_tables_own() -> None:
    """A validation file and a fraction, or two trackers, would not go together."""
    spec = {
        **BASE.spec,
        "dataset": {"validation": {"fraction": 0.2}, "test": {"fraction": 0.05}},
        "training": {"tracking": {"type": "mlflow", "url": "https://mlflow.example.com"}, "maxLength": 512},
    }
    base = tuning.StartingModel(name="small", spec=spec)
    asked = {"model": "small", "training_file": "file-1", "validation_file": "file-2"}
    request = tuning.read(json.dumps(asked | {"integrations": [{"type": "tensorboard"}]}).encode())
    rows = {"training_file": ("s3://b/1.jsonl", Format.CHAT), "validation_file": ("s3://b/2.jsonl", Format.CHAT)}
    found = tuning.manifest(request, base, "kitchen", rows, "bucket")["spec"]
    assert found["dataset"]["validation"] == {"source": "s3://b/2.jsonl"}
    assert found["dataset"]["test"] == {"fraction": 0.05}
    assert found["training"]["tracking"] == {"type": "tensorboard"}
    assert found["training"]["maxLength"] == 512


WANDB = {"type": "wandb", "credentials": {"secretRef": {"name": "wandb"}}, "tags": ["table"]}
TRACKIO = {"type": "trackio", "url": "https://trackio.example.com"}


def with_tracker(tracking: dict[str, Any]) -> tuning.StartingModel:
    return tuning.StartingModel(name="small", spec={**BASE.spec, "training": {"tracking": tracking}})


def test_a_tracker_has_its_key_from_the_table_and_its_run_from_the_request() -> None:
    asked = {"type": "wandb", "wandb": {"project": "food", "name": "first", "entity": None, "tags": ["a"]}}
    raw = made(with_tracker(WANDB), integrations=[asked])
    assert raw["spec"]["training"]["tracking"] == {**WANDB, "project": "food", "name": "first", "tags": ["a"]}
    told = {"type": "wandb", "wandb": {"project": "food", "name": "first", "tags": ["a"]}}
    assert view.job(raw)["integrations"] == [told]
    raw = made(with_tracker(TRACKIO), integrations=[{"type": "trackio", "trackio": {"project": "food"}}])
    assert raw["spec"]["training"]["tracking"] == {**TRACKIO, "project": "food"}


def test_no_request_sends_a_run_to_another_entity_than_the_tables() -> None:
    base = with_tracker({**WANDB, "entity": "cooks"})
    asked = {"type": "wandb", "wandb": {"project": "food", "entity": "rivals"}}
    with pytest.raises(Problem) as caught:
        made(base, integrations=[asked])
    assert caught.value.message == (
        "Integration wandb can't be had: runs of small belong to the entity cooks: leave entity out."
    )
    asked["wandb"] = {"project": "food", "entity": "cooks"}
    assert made(base, integrations=[asked])["spec"]["training"]["tracking"]["entity"] == "cooks"


def test_events_have_ids_of_their_own_and_the_newest_is_first() -> None:
    raw = with_status("Training", **READY, Trained="Unknown Running")
    raw["status"]["progress"] = {"stage": "train", "step": 3, "totalSteps": 9, "validationLoss": "0.5"}
    found = view.events(raw, NOW)
    assert [each["message"] for each in found] == [
        "Step 3/9: validation loss=0.5",
        "DataReady: …",
        f"Created fine-tuning job: {view.id_of(raw['metadata']['name'])}",
    ]
    assert len({each["id"] for each in found}) == 3


def test_a_body_that_is_no_json_is_told() -> None:
    with pytest.raises(Problem) as found:
        tuning.read(b"{")
    assert found.value.message.startswith("The request's body is not JSON: EOF while parsing an object")


def given(tmp_path: Path, models: str, **variables: str) -> ClusterSettings:
    (tmp_path / "models.yaml").write_text(models)
    place = {"BUCKET": "s3://rows/openai/", "MODELS": str(tmp_path / "models.yaml")}
    return ClusterSettings.from_environment(
        {f"FINETUNE_API_{name}": value for name, value in (place | variables).items()}
    )


def test_the_table_of_base_models_is_read(tmp_path: Path) -> None:
    found = given(tmp_path, "gpt: {model: {source: hf://acme/small}, training: {learningRate: 2e-4}}")
    assert found.models["gpt"]["training"] == {"learningRate": 0.0002}
    assert (found.bucket, found.port, found.file_bytes) == ("s3://rows/openai", 8000, 512 * 2**20)
    assert (found.limits.jobs, found.cluster_tokens) == (20, False)


@pytest.mark.parametrize(
    ("models", "variables", "sentence"),
    [
        ("gpt: {model: {source: acme}}", {}, "base model gpt: spec.model.source: must be "),
        ("gpt: {training: {}}", {}, "base model gpt: spec.model: is required"),
        ("gpt: {model: {source: hf://a/b}, output: {destination: hf://a/c}}", {}, "has room for one job, and each"),
        ("[]", {}, "has to be a map of base models"),
        ("{", {}, "can't be read: "),
        ("{}", {"BUCKET": "/tmp"}, "FINETUNE_API_BUCKET must be s3://BUCKET or s3://BUCKET/PREFIX, not '/tmp'"),
        ("{}", {"BUCKET": ""}, "FINETUNE_API_BUCKET names a bucket for them, FINETUNE_API_CLAIM a claim"),
        ("{}", {"CLAIM": "files"}, "FINETUNE_API_BUCKET and FINETUNE_API_CLAIM are both given"),
        ("{}", {"BUCKET": "", "CLAIM": "files", "ROWS_SECRET": "rows"}, "FINETUNE_API_ROWS_SECRET is for a bucket"),
        ("{}", {"JOBS_CLAIM": "files"}, "FINETUNE_API_JOBS_CLAIM needs FINETUNE_API_CLAIM"),
        ("{}", {"LIMIT_JOBS": "0"}, "FINETUNE_API_LIMIT_JOBS must be a whole number above zero, not '0'"),
        ("{}", {"CLUSTER_TOKENS": "yes"}, "FINETUNE_API_CLUSTER_TOKENS must be true or false, not 'yes'"),
        ("{}", {"PORT": "http"}, "FINETUNE_API_PORT must be a whole number above zero, not 'http'"),
    ],
)
def test_settings_that_cant_be_are_refused(
    tmp_path: Path, models: str, variables: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        given(tmp_path, models, **variables)
