"""A FineTuneJob as OpenAI's client knows it: a job, its events and checkpoints, and the model that came of it. Pure.

Any FineTuneJob can be looked at so; one that was made by kubectl has its sources where others have the ids of files.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

from finetune_cli.importing.openai import METHODS
from finetune_operator import names
from finetune_operator.api.status import Phase
from finetune_operator.api.v1alpha1 import GROUP
from finetune_operator.api.values import NAME_MAX_LENGTH
from finetune_operator.conditions import Reason, Type

from finetune_server.settings import Raw
from finetune_server.tuning import CANCELLED, asked_for

_PREFIX = "ftjob-"
# What has ended, and what may still be cancelled or paused.
ENDED = ("succeeded", "failed", "cancelled")
# What holds pods, or will as soon as it can.
UNDER_WAY = ("validating_files", "queued", "running")
FAILED = (Phase.FAILED, Phase.REJECTED, Phase.INVALID)
# Labels of a FineTuneJob, one for each name that its model is deployed under; the value is the sku's name.
DEPLOYMENTS = f"deployments.{GROUP}/"
_METHODS = {here: theirs for theirs, here in METHODS.items()}
# The conditions that tell how it goes; Ready repeats the one that it hangs on.
_TOLD = (
    Type.ACCEPTED,
    Type.DATA_READY,
    Type.TRAINED,
    Type.PUBLISHED,
    Type.MERGED,
    Type.HOSTED,
    Type.EVALUATED,
    Type.PROMOTED,
)


def id_of(name: str) -> str:
    """A job's id."""
    return f"{_PREFIX}{name}"


def name_of(id: str) -> str | None:
    """The FineTuneJob that an id means; None for what is no id."""
    found = re.fullmatch(f"{_PREFIX}([a-z][-a-z0-9]{{0,{NAME_MAX_LENGTH - 1}}})", id)
    return found[1] if found else None


def model_of(raw: Raw) -> str:
    """The name of the model that comes of a FineTuneJob: ft:BASE:NAMESPACE:SUFFIX:NAME, as OpenAI's."""
    asked, metadata = _request(raw), raw["metadata"]
    return f"ft:{asked['base']}:{metadata['namespace']}:{asked.get('suffix', '')}:{metadata['name']}"


def job_named_in(model: str) -> str | None:
    """The FineTuneJob whose model it may be: the last part of its name, or before a checkpoint's."""
    *_, name = re.sub(r":ckpt-step-\d+$", "", model).split(":")
    return name_of(id_of(name))


def deployments(raw: Raw) -> dict[str, str]:
    """The names that a FineTuneJob's model is deployed under, each with its sku."""
    labels = raw["metadata"].get("labels", {})
    return {key.removeprefix(DEPLOYMENTS): value for key, value in labels.items() if key.startswith(DEPLOYMENTS)}


def status_of(raw: Raw) -> str:
    """OpenAI's status. What waits for somebody else's hand is queued, and its events say for whose."""
    told = raw.get("status", {})
    if CANCELLED in raw["metadata"].get("annotations", {}):
        return "cancelled"
    if raw["spec"].get("suspend"):
        return "paused"
    # Only what has passed its gate is deployed; a deployment that fails is told as such.
    if _is_done(told) or deployments(raw):
        return "succeeded"
    if told.get("phase") == Phase.INVALID and _condition(raw, Type.READY).get("reason") != Reason.INVALID:
        # An Engine, a claim or a name that is not there yet: it begins by itself once that is mended.
        return "queued"
    if told.get("phase") in FAILED:
        return "failed"
    if _condition(raw, Type.DATA_READY).get("status") != "True":
        return "validating_files"
    trained = _condition(raw, Type.TRAINED)
    waits = told.get("phase") in (Phase.QUEUED, Phase.BLOCKED, Phase.SUSPENDED)
    begins = trained.get("status") != "True" and trained.get("reason") in (Reason.WAITING, Reason.STARTING)
    return "queued" if waits or begins else "running"


def job(raw: Raw) -> Raw:
    """The job."""
    metadata, told, asked = raw["metadata"], raw.get("status", {}), _request(raw)
    status = status_of(raw)
    chosen = _hyperparameters(raw, asked)
    return {
        "id": id_of(metadata["name"]),
        "object": "fine_tuning.job",
        "created_at": _seconds(metadata["creationTimestamp"]),
        "status": status,
        "model": asked["model"],
        "fine_tuned_model": model_of(raw) if status == "succeeded" else None,
        "organization_id": metadata["namespace"],
        "training_file": asked["training_file"],
        "validation_file": asked.get("validation_file"),
        "result_files": [],
        "seed": raw["spec"].get("training", {}).get("seed", 42),
        "trained_tokens": told.get("usage", {}).get("trainedTokens"),
        "hyperparameters": chosen,
        **_method(raw, chosen),
        "error": _error(raw) if status == "failed" else None,
        "finished_at": _finished(raw, status),
        "estimated_finish": _seconds(told["progress"]["eta"]) if "eta" in told.get("progress", {}) else None,
        "integrations": asked.get("integrations"),
        "metadata": asked.get("metadata"),
    }


def events(raw: Raw, now: datetime) -> list[Raw]:
    """What has happened, the newest first."""
    return sorted(_events(raw, now), key=lambda each: each["created_at"])[::-1]


def checkpoints(raw: Raw) -> list[Raw]:
    """The weights that are kept, the latest step first."""
    created = _condition(raw, Type.TRAINED).get("lastTransitionTime") or raw["metadata"]["creationTimestamp"]
    found = [
        {
            "id": f"ftckpt_{names.digest([raw['metadata']['uid'], each['name']])}",
            "object": "fine_tuning.job.checkpoint",
            "created_at": _seconds(created),
            "fine_tuned_model_checkpoint": f"{model_of(raw)}:ckpt-step-{each['step']}",
            "fine_tuning_job_id": id_of(raw["metadata"]["name"]),
            "step_number": each["step"],
            "metrics": {"step": each["step"], **_number("valid_loss", each.get("validationLoss"))},
        }
        for each in raw.get("status", {}).get("checkpoints") or []
    ]
    return sorted(found, key=lambda each: each["step_number"])[::-1]


def model(raw: Raw) -> Raw | None:
    """The model, while it can be asked."""
    undeployed = not raw["spec"].get("hosting", {}).get("enabled", True)
    if status_of(raw) != "succeeded" or undeployed or not raw.get("status", {}).get("endpoint"):
        return None
    created = _condition(raw, Type.PROMOTED).get("lastTransitionTime") or raw["metadata"]["creationTimestamp"]
    owner = raw["metadata"]["namespace"]
    return {"id": model_of(raw), "object": "model", "created": _seconds(created), "owned_by": owner}


def _is_done(told: Raw) -> bool:
    """Whether a revision has passed its gate: it serves, or there is nothing left to do."""
    serves = told.get("revision") is not None and told.get("servedRevision") == told["revision"]
    return serves or told.get("phase") == Phase.SUCCEEDED


def _request(raw: Raw) -> Raw:
    """What was asked for; of a FineTuneJob that nobody made here, what its manifest says."""
    spec = raw["spec"]
    made = {"model": spec["model"]["source"], "training_file": spec["dataset"]["train"]["source"]}
    return asked_for(raw) or made | {"base": made["model"]}


def _learns(raw: Raw) -> str:
    return str(raw["spec"].get("training", {}).get("method", "sft"))


def _hyperparameters(raw: Raw, asked: Raw) -> Raw:
    """What is in use in place of auto, once that is known. Parts of an epoch can't be told: OpenAI's are whole."""
    training, plan = raw["spec"].get("training", {}), raw.get("status", {}).get("plan", {})
    of_method = asked.get("method", {}).get(_METHODS.get(_learns(raw), ""), {})
    given = {**asked.get("hyperparameters", {}), **of_method.get("hyperparameters", {})}
    epochs = training.get("epochs")
    whole = {"n_epochs": int(epochs)} if epochs and not epochs % 1 else {}
    return {
        **(whole if epochs else {"n_epochs": "auto"}),
        "batch_size": plan.get("batchSize") or training.get("batchSize", "auto"),
        "learning_rate_multiplier": given.get("learning_rate_multiplier", "auto"),
    }


def _method(raw: Raw, chosen: Raw) -> Raw:
    """How it learns; empty for what OpenAI has no word for, which was made by kubectl."""
    learns = _learns(raw)
    if learns not in _METHODS:
        return {}
    own = {"beta": raw["spec"]["training"].get("dpo", {}).get("beta", "auto")} if learns == "dpo" else {}
    kind = _METHODS[learns]
    return {"method": {"type": kind, kind: {"hyperparameters": chosen | own}}}


def _error(raw: Raw) -> Raw:
    """Why it failed: the gate's sentence, or the stage's."""
    told = map(partial(_condition, raw), _TOLD)
    # Where a merged model answers otherwise, the adapter went on in its place.
    failed = (found for found in told if _wrong(found) and found["reason"] != Reason.ANSWERS_DIFFER)
    found = next(failed, _condition(raw, Type.READY))
    reason = found.get("reason", "Failed")
    code = re.sub("(?<=[a-z])(?=[A-Z])", "_", reason).lower()
    param = "training_file" if reason == Reason.DATA_INVALID else None
    return {"code": code, "message": found.get("message", ""), "param": param}


def _finished(raw: Raw, status: str) -> int | None:
    if status == "cancelled":
        return _seconds(raw["metadata"]["annotations"][CANCELLED])
    if status not in ENDED:
        return None
    if status == "failed":
        ended = [_condition(raw, Type.READY)]
    else:
        # A model that is deployed later was there before.
        deployed = deployments(raw) or not raw["spec"].get("hosting", {}).get("enabled", True)
        ended = [_condition(raw, kind) for kind in ((Type.TRAINED, Type.EVALUATED) if deployed else (Type.PROMOTED,))]
    return max((_seconds(each["lastTransitionTime"]) for each in ended if each), default=None)


def _events(raw: Raw, now: datetime) -> Iterator[Raw]:
    metadata, failed = raw["metadata"], status_of(raw) == "failed"
    yield _event(raw, metadata["creationTimestamp"], "info", f"Created fine-tuning job: {id_of(metadata['name'])}")
    for kind in _TOLD:
        found = _condition(raw, kind)
        if _wrong(found) or found.get("status") == "True":
            level = "info" if found["status"] == "True" else "error" if failed else "warn"
            yield _event(raw, found["lastTransitionTime"], level, f"{kind}: {found['message']}")
    for each in checkpoints(raw):
        yield _event(raw, each["created_at"], "info", f"Checkpoint created at step {each['step_number']}")
    if progress := raw.get("status", {}).get("progress"):
        yield from _progress(raw, progress, now)
    if status_of(raw) == "succeeded":
        at = _finished(raw, "succeeded") or metadata["creationTimestamp"]
        yield _event(raw, at, "info", f"New fine-tuned model created: {model_of(raw)}")
        yield _event(raw, at, "info", "The job has successfully completed")


def _progress(raw: Raw, progress: Raw, now: datetime) -> Iterator[Raw]:
    if not progress.get("totalSteps"):
        return
    data = {
        "step": progress["step"],
        **_number("train_loss", progress.get("loss")),
        **_number("valid_loss", progress.get("validationLoss")),
    }
    losses = {"training loss": progress.get("loss"), "validation loss": progress.get("validationLoss")}
    said = ", ".join(f"{name}={value}" for name, value in losses.items() if value is not None)
    message = f"Step {progress['step']}/{progress['totalSteps']}{': ' if said else ''}{said}"
    yield _event(raw, now.isoformat(), "info", message) | {"type": "metrics", "data": data}


def _event(raw: Raw, at: str | int, level: str, message: str) -> Raw:
    return {
        "object": "fine_tuning.job.event",
        "id": f"ftevent-{names.digest([raw['metadata']['uid'], message])}",
        "created_at": at if isinstance(at, int) else _seconds(at),
        "level": level,
        "message": message,
        "type": "message",
        "data": {},
    }


def _condition(raw: Raw, kind: Type) -> Raw:
    found = raw.get("status", {}).get("conditions", [])
    return next((each for each in found if each["type"] == kind), {})


def _wrong(condition: Raw) -> bool:
    """Whether it failed or waits for somebody; what the manifest doesn't ask for is no fault."""
    silent = (Reason.DISABLED, Reason.RELEASED, Reason.SUSPENDED)
    return condition.get("status") == "False" and condition["reason"] not in silent


def _number(name: str, text: Any) -> Raw:
    return {} if text is None else {name: float(text)}


def _seconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp())
