"""The manifest's `training.tracking`."""

import re
from typing import Annotated

from finetune_trainer.contract.config import TrackerType
from pydantic import Field

from finetune_operator.api.pods import LocalObject
from finetune_operator.api.rules import ApiModel, Rule

# A Space asks for the token of one of its owners, which could do much more than write metrics.
_SPACE = r"^https?://[^/?#@ ]+[.]hf[.]space(:[0-9]+)?(/|$)"

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
    trackio TRACKIO_WRITE_TOKEN."""


class Tracking(ApiModel):
    """Where training is followed from outside. Training goes on where that does not answer, and says so."""

    type: TrackerType
    """mlflow: a run at an MLflow server for each revision, with its hyperparameters and what metrics.jsonl has.
    trackio: the same at a trackio server of your own. tensorboard: event files beside the artifact. For mlflow and
    tensorboard the trainer's image needs the library (the build argument EXTRAS=trainer,mlflow or
    EXTRAS=trainer,tensorboard)."""
    url: TrackerUrl | None = None
    """mlflow's or trackio's server."""
    project: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """mlflow's experiment or trackio's project, made where it is not there. Left out: Default."""
    credentials: TrackerCredentials | None = None
    """For a server that asks for them."""

    rules = (
        Rule(
            "self.type == 'tensorboard' || has(self.url)",
            "is what types mlflow and trackio ask for, since nothing else outlives the pod: give the server's URL",
            lambda tracking: tracking.type == TrackerType.TENSORBOARD or tracking.url is not None,
            "url",
        ),
        Rule(
            "self.type != 'tensorboard' || !(has(self.url) || has(self.project) || has(self.credentials))",
            "has url, project or credentials, of no use to event files: remove them, or choose mlflow or trackio",
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
    )
