"""OpenAI's specification, as its client has it, which is generated from it: every endpoint, parameter and object.

An endpoint is there or refused by the sentence that the docs' table has, a parameter is taken or refused, and an object
has what its type wants, and nothing that the type doesn't know.
"""

import ast
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import httpx
import pytest
from finetune_cli.background import Background
from finetune_cli.serve import application
from finetune_operator.api.training import Method
from finetune_server import tuning, view
from finetune_server.app import AZURE_ROUTES, ROUTES
from finetune_server.document import document
from finetune_server.errors import Problem
from finetune_server.not_here import NOT_ASKED, why_not_asked
from finetune_server.settings import Settings
from finetune_trainer.contract.config import Format
from listening import listening
from openai.types import FileCreateParams, FileListParams, completion_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.fine_tuning import (
    FineTuningJob,
    FineTuningJobEvent,
    JobCreateParams,
    JobListEventsParams,
    JobListParams,
)
from openai.types.fine_tuning.jobs import CheckpointListParams, FineTuningJobCheckpoint
from paths import ROOT
from pydantic import BaseModel
from statuses import NOW, serving, status, training
from typing_extensions import is_typeddict

Raw = dict[str, Any]
BASE = tuning.StartingModel(
    name="small",
    spec={
        "model": {"source": "hf://acme/small"},
        "training": {
            "learningRate": 2e-4,
            "method": "sft",
            "tracking": {"type": "wandb", "credentials": {"secretRef": {"name": "wandb"}}},
        },
    },
)
ASKED = {"model": "small", "training_file": "file-1"}
ROW = re.compile(r"\| `([^`]+)` \| `(\w+) ([^`]+)` \| (yes|no: [^|]+) \| (yes|no) \|")
TABLE = ROW.findall((ROOT / "docs/openai-endpoints.md").read_text())


def test_every_endpoint_answers_as_the_table_says(tmp_path: Path) -> None:
    assert len(TABLE) > 30
    server = application(Background(tmp_path), Settings(models={"small": BASE.spec}))
    with listening(server) as address, httpx.Client(base_url=address, timeout=60) as http:
        for call, method, path, here, azures in TABLE:
            path = re.sub("{[^}]*}", "x", path)
            places = {path: here == "yes", path.replace("/v1/", "/openai/v1/"): azures == "yes"}
            # There a question names its deployment.
            if not path.endswith("/completions"):
                places[f"{path.replace('/v1/', '/openai/')}?api-version=2024-10-21"] = azures == "yes"
            for place, there in places.items():
                answer = http.request(method, place)
                told = "" if answer.is_success else answer.json()["error"]["message"]
                where = f"{method} {place.partition('?')[0]} is not "
                assert told.startswith(where) != there, (call, place, told)
                if here.startswith("no: "):
                    why = here.removeprefix("no: ").strip()
                    assert (told, answer.json()["error"]["code"]) == (f"{where}here: {why}.", "not_here")


def parameters(of: Any, above: str = "") -> Iterator[str]:
    """Those of a type of the client's, with what is in them; of reinforcement, all that is in it is one."""
    for name, kind in get_type_hints(of).items():
        inner = [each for each in _parts(kind) if is_typeddict(each)]
        if not inner or name == "reinforcement":
            yield f"{above}{name}"
        for each in inner if name != "reinforcement" else []:
            yield from parameters(each, f"{above}{name}.")


def _parts(kind: Any) -> Iterator[Any]:
    yield kind
    for each in get_args(kind):
        yield from _parts(each)


def made(asked: Raw) -> Raw:
    rows = {"training_file": ("s3://b/1.jsonl", Format.CHAT), "validation_file": ("s3://b/2.jsonl", Format.CHAT)}
    if asked.get("method", {}).get("type") == "dpo":
        rows = {name: (place, Format.PREFERENCE) for name, (place, _) in rows.items()}
    raw = tuning.manifest(tuning.read(json.dumps(ASKED | asked).encode()), BASE, "kitchen", rows, "")
    return raw | {"metadata": {**raw["metadata"], "creationTimestamp": "2026-11-27T11:00:00Z", "uid": "u"}}


def of(method: str, **hyperparameters: Any) -> Raw:
    return {"method": {"type": method, method: {"hyperparameters": hyperparameters}}}


WANDB: Raw = {"type": "wandb", "wandb": {"project": "p", "entity": "e", "name": "n", "tags": ["t"]}}
# A request with it, and where in the FineTuneJob's spec it counts.
TAKEN: dict[str, tuple[Raw, str, Any]] = {
    "model": ({}, "model.source", "hf://acme/small"),
    "training_file": ({}, "dataset.train.source", "s3://b/1.jsonl"),
    "validation_file": ({"validation_file": "file-2"}, "dataset.validation.source", "s3://b/2.jsonl"),
    "seed": ({"seed": 7}, "training.seed", 7),
    "hyperparameters.n_epochs": ({"hyperparameters": {"n_epochs": 5}}, "training.epochs", 5),
    "hyperparameters.batch_size": ({"hyperparameters": {"batch_size": 9}}, "training.batchSize", 9),
    "hyperparameters.learning_rate_multiplier": (
        {"hyperparameters": {"learning_rate_multiplier": 0.5}},
        "training.learningRate",
        1e-4,
    ),
    "method.type": (of("dpo"), "training.method", "dpo"),
    **{
        f"method.{method}.hyperparameters.{name}": (of(method, **{name: value}), f"training.{where}", value * times)
        for method in ("supervised", "dpo")
        for name, value, where, times in (
            ("n_epochs", 5, "epochs", 1),
            ("batch_size", 9, "batchSize", 1),
            ("learning_rate_multiplier", 0.5, "learningRate", 2e-4),
        )
    },
    "method.dpo.hyperparameters.beta": (of("dpo", beta=0.3), "training.dpo.beta", 0.3),
    "integrations.type": ({"integrations": [WANDB]}, "training.tracking.type", "wandb"),
    **{
        f"integrations.wandb.{name}": ({"integrations": [WANDB]}, f"training.tracking.{name}", value)
        for name, value in WANDB["wandb"].items()
    },
}
REFUSED = {"method.reinforcement": {"method": {"type": "reinforcement", "reinforcement": {"grader": {}}}}}


@pytest.mark.parametrize("name", TAKEN)
def test_a_parameter_of_a_job_counts(name: str) -> None:
    asked, where, value = TAKEN[name]
    found: Any = made(asked)["spec"]
    for part in where.split("."):
        found = found[part]
    assert found == value


@pytest.mark.parametrize("name", REFUSED)
def test_a_parameter_of_a_job_that_is_not_here_is_refused(name: str) -> None:
    with pytest.raises(Problem) as found:
        made(REFUSED[name])
    assert found.value.param == name.partition(".")[0]


def test_no_parameter_of_a_job_is_left_out() -> None:
    told = view.job(made({"suffix": "recipes", "metadata": {"team": "kitchen"}}))
    assert told["metadata"] == {"team": "kitchen"}
    assert ":recipes:" in view.model_of(made({"suffix": "recipes"}))
    assert set(parameters(JobCreateParams)) == {*TAKEN, *REFUSED, "suffix", "metadata"}


DOCUMENT = document((*ROUTES, *AZURE_ROUTES))["paths"]


@pytest.mark.parametrize(
    ("path", "of"),
    [
        ("/v1/files", FileListParams),
        ("/v1/fine_tuning/jobs", JobListParams),
        ("/v1/fine_tuning/jobs/{id}/events", JobListEventsParams),
        ("/v1/fine_tuning/jobs/{id}/checkpoints", CheckpointListParams),
    ],
)
def test_every_parameter_of_a_list_is_told(path: str, of: type) -> None:
    told = {each["name"] for each in DOCUMENT[path]["get"]["parameters"] if each["in"] == "query"}
    assert set(get_type_hints(of)) <= told


def test_a_file_has_all_parameters_but_the_day_that_it_goes() -> None:
    form = DOCUMENT["/v1/files"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(get_type_hints(FileCreateParams)) - set(form["properties"]) == {"expires_after"}


# How OpenAI bills, caches and traces a question, which changes no answer; docs/openai-api.md says so.
ELSEWHERE = {
    *("metadata", "prediction", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
    *("safety_identifier", "service_tier"),
}


@pytest.mark.parametrize(
    ("of", "module", "kind"),
    [
        (chat_create_params, "chat_completion", "ChatCompletionRequest"),
        (completion_create_params, "completion", "CompletionRequest"),
    ],
)
def test_what_vllm_would_pass_over_in_silence_is_refused(of: Any, module: str, kind: str) -> None:
    (place,) = importlib.util.find_spec("vllm").submodule_search_locations or ()  # type: ignore[union-attr]
    source = ast.parse((Path(place) / f"entrypoints/openai/{module}/protocol.py").read_text())
    (found,) = (each for each in source.body if isinstance(each, ast.ClassDef) and each.name == kind)
    known = {each.target.id for each in found.body if isinstance(each, ast.AnnAssign) and hasattr(each.target, "id")}
    assert "model" in known
    passed_over = set(of.CompletionCreateParamsBase.__annotations__) - known
    assert passed_over <= {*NOT_ASKED, *ELSEWHERE}
    assert not known & {*NOT_ASKED, *ELSEWHERE}


@pytest.mark.parametrize("name", NOT_ASKED)
def test_what_can_not_be_asked_is_refused_and_what_asks_for_nothing_is_not(name: str) -> None:
    nothing, why = NOT_ASKED[name]
    assert why_not_asked({name: "something"}) == (name, why)
    assert [why_not_asked({name: each}) for each in (None, *nothing)] == [None] * (len(nothing) + 1)


def test_what_changes_no_answer_is_told_in_the_docs() -> None:
    told = (ROOT / "docs/openai-api.md").read_text()
    assert all(f"`{name}`" in told for name in (*NOT_ASKED, *ELSEWHERE))


def known(found: BaseModel) -> Iterator[str]:
    """What an object has that its type doesn't know, anywhere in it."""
    yield from (found.model_extra or {}).keys()
    for name in type(found).model_fields:
        value = getattr(found, name)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, BaseModel):
                yield from known(each)


def strictly(kind: type[BaseModel], raw: Raw) -> BaseModel:
    found = kind.model_validate_json(json.dumps(raw), strict=True)
    assert list(known(found)) == []
    return found


def job(told: Raw | None = None, asked: Raw | None = None, **training: Any) -> Raw:
    raw = made(asked or {})
    raw["spec"]["training"] = {**raw["spec"]["training"], **training}
    return raw | ({"status": told} if told else {})


SEEN = {
    "new": job(),
    "trains": job(training()),
    "serves": job(serving(), {"validation_file": "file-2", "metadata": {"team": "kitchen"}}),
    "failed": job(status("Failed", {"Ready": ("False", "DataInvalid", "Row 2 has no answer.")})),
    "preferences": job(serving(), of("dpo", beta=0.3)),
    # Of those that kubectl makes, OpenAI has no word for some.
    **{method.value: job(method=method.value) for method in Method},
    "half an epoch": job(epochs=0.5),
    "whole epochs": job(epochs=2.0),
}


@pytest.mark.parametrize("name", SEEN)
def test_objects_are_what_their_types_say(name: str) -> None:
    strictly(FineTuningJob, view.job(SEEN[name]))
    for event in view.events(SEEN[name], NOW):
        strictly(FineTuningJobEvent, event)
    for checkpoint in view.checkpoints(SEEN[name]):
        strictly(FineTuningJobCheckpoint, checkpoint)


def test_what_openai_has_no_word_for_is_not_told_as_something_else() -> None:
    assert "method" not in view.job(SEEN["kto"])
    assert view.job(SEEN["preferences"])["method"]["dpo"]["hyperparameters"]["beta"] == 0.3
    assert "n_epochs" not in view.job(SEEN["half an epoch"])["hyperparameters"]
    assert view.job(SEEN["whole epochs"])["hyperparameters"]["n_epochs"] == 2
    assert view.job(SEEN["new"])["hyperparameters"]["n_epochs"] == "auto"
