"""What prepare and train are told of `training.tracking`: an argument, and for train the keys of the tracker.

The run config can't tell it: a revision's is written once, and who watches a training changes nothing about it.
Used by the stages, and by the local backend.
"""

from typing import Any

from finetune_trainer.contract.config import TRACKING_KEYS, TrackingConfig

from finetune_operator import names
from finetune_operator.api.training import Training
from finetune_operator.pods.environment import Variable, from_secret


def arguments(training: Training) -> tuple[str, ...]:
    """None where nothing is tracked."""
    asked = training.tracking
    if asked is None:
        return ()
    told = TrackingConfig.model_validate(asked.model_dump(exclude={"credentials"}, exclude_none=True))
    return "--tracking", told.model_dump_json(by_alias=True, exclude_none=True)


def keys(training: Training) -> list[Variable]:
    """FINETUNE_TRACKING_*: any of them may be missing from the Secret."""
    asked = training.tracking
    if asked is None or asked.credentials is None:
        return []
    secret = asked.credentials.secret_ref.name
    return [from_secret("FINETUNE_TRACKING_", secret, key, optional=True) for key in TRACKING_KEYS[asked.type]]


def made_from(training: Training) -> dict[str, Any]:
    """What pods that are told are made from, for their digests; nothing where nothing is tracked."""
    return {"tracking": names.given(training.tracking)} if training.tracking else {}
