"""The manifest's `training.tracking`."""

import re
from typing import Annotated

from finetune_trainer.contract.config import TrackerType
from pydantic import Field

from finetune_operator.api.pods import LocalObject
from finetune_operator.api.rules import ApiModel, Rule

# A Space asks for the token of one of its owners, which could do much more than write metrics.
_SPACE = r"^https?://[^/?#@ ]+[.]hf[.]space(:[0-9]+)?(/|$)"
# What Weights & Biases takes as a project's name.
_PROJECT = "[-_. a-zA-Z0-9]{1,128}"

TrackerUrl = Annotated[
    str,
    Field(max_length=1024),
    Rule(
        "self.matches('^https?://[^/?#@ ]+(/[^?#@ ]*)?$')",
        "must be the tracker's URL, such as https://HOST, without a user or a password in it",
        lambda url: re.fullmatch("https?://[^/?#@ ]+(/[^?#@ ]*)?", url) is not None,
    ),
]


class TrackerCredentials(ApiModel):
    """Credentials, by reference."""

    secret_ref: LocalObject
    """A Secret with the key MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; for
    trackio TRACKIO_WRITE_TOKEN, for wandb WANDB_API_KEY."""


class Tracking(ApiModel):
    """Where training is followed from outside. Training goes on where that does not answer, and says so."""

    type: TrackerType
    """mlflow: a run at an MLflow server for each revision, with its hyperparameters and what metrics.jsonl has.
    trackio: the same at a trackio server of your own. wandb: the same at Weights & Biases. tensorboard: event files
    beside the artifact. For mlflow, wandb and tensorboard the trainer's image needs the library (the build argument
    EXTRAS=trainer,mlflow and so on)."""
    url: TrackerUrl | None = None
    """mlflow's or trackio's server; for wandb that of your own. Left out with wandb: https://api.wandb.ai."""
    project: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """mlflow's experiment or the others' project, made where it is not there. Left out: Default."""
    entity: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """wandb's team or user that the project belongs to. Left out: the key's own."""
    name: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """What wandb calls the runs. Left out: the FineTuneJob's name and the revision."""
    tags: (
        Annotated[tuple[Annotated[str, Field(min_length=1, max_length=64)], ...], Field(min_length=1, max_length=50)]
        | None
    ) = None
    """wandb's tags of the runs."""
    credentials: TrackerCredentials | None = None
    """For a server that asks for them; wandb does."""

    rules = (
        Rule(
            "self.type in ['tensorboard', 'wandb'] || has(self.url)",
            "is what types mlflow and trackio ask for, since nothing else outlives the pod: give the server's URL",
            lambda tracking: tracking.type in (TrackerType.TENSORBOARD, TrackerType.WANDB) or tracking.url is not None,
            "url",
        ),
        Rule(
            "self.type != 'tensorboard' || !(has(self.url) || has(self.project) || has(self.credentials))",
            "has url, project or credentials, of no use to event files: remove them, or choose another type",
            lambda tracking: (
                tracking.type != TrackerType.TENSORBOARD
                or not any((tracking.url, tracking.project, tracking.credentials))
            ),
        ),
        Rule(
            f"self.type != 'trackio' || !has(self.url) || !self.url.matches('{_SPACE}')",
            "is a Space, which would ask for your Hugging Face token: give the URL of a trackio server of your own",
            lambda tracking: tracking.type != TrackerType.TRACKIO or re.search(_SPACE, tracking.url or "") is None,
            "url",
        ),
        Rule(
            "self.type == 'wandb' || !(has(self.entity) || has(self.name) || has(self.tags))",
            "has entity, name or tags, which wandb alone knows: remove them, or choose wandb",
            lambda tracking: (
                tracking.type == TrackerType.WANDB or not any((tracking.entity, tracking.name, tracking.tags))
            ),
        ),
        Rule(
            "self.type != 'wandb' || has(self.credentials)",
            "is what type wandb asks for, which takes no run without a key: name a Secret with WANDB_API_KEY",
            lambda tracking: tracking.type != TrackerType.WANDB or tracking.credentials is not None,
            "credentials",
        ),
        Rule(
            f"self.type != 'wandb' || !has(self.project) || self.project.matches('^{_PROJECT}$')",
            "must be what wandb takes as a project: at most 128 letters, digits, '-', '_', '.' and spaces",
            lambda tracking: (
                tracking.type != TrackerType.WANDB or re.fullmatch(_PROJECT, tracking.project or "Default") is not None
            ),
            "project",
        ),
    )
