"""The manifest's `training.tracking`."""

import re
from typing import Annotated

from finetune_trainer.contract.config import TrackerType
from pydantic import Field

from finetune_operator.api.pods import LocalObject
from finetune_operator.api.rules import ApiModel, Rule

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
    """A Secret with the key MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."""


class Tracking(ApiModel):
    """Where training is followed from outside. Training goes on where that does not answer, and says so."""

    type: TrackerType
    """mlflow: a run at an MLflow server for each revision, with its hyperparameters and what metrics.jsonl has.
    tensorboard: event files beside the artifact. The trainer's image needs the library (the build argument
    EXTRAS=trainer,mlflow or EXTRAS=trainer,tensorboard)."""
    url: TrackerUrl | None = None
    """mlflow's server."""
    project: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """mlflow's experiment, made where it is not there. Left out: Default."""
    credentials: TrackerCredentials | None = None
    """For an mlflow server that asks for them."""

    rules = (
        Rule(
            "self.type != 'mlflow' || has(self.url)",
            "is what type mlflow asks for: give the server's URL",
            lambda tracking: tracking.type != TrackerType.MLFLOW or tracking.url is not None,
            "url",
        ),
        Rule(
            "self.type == 'mlflow' || !(has(self.url) || has(self.project) || has(self.credentials))",
            "has url, project or credentials, which go with type mlflow only: remove them, or choose it",
            lambda tracking: (
                tracking.type == TrackerType.MLFLOW or not any((tracking.url, tracking.project, tracking.credentials))
            ),
        ),
    )
