"""Whose a place is. Asked by the places when one is claimed already."""

from pydantic import ValidationError

from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.published import CLAIM, Claim

_INSTEAD = "choose another output.destination, or delete what lies there"


def refuse_another(uri: str, claim: Claim, there: bytes) -> None:
    """Raises StageError where what is there says that the place is another FineTuneJob's."""
    try:
        found = Claim.model_validate_json(there)
    except ValidationError as error:
        message = (
            f"{uri}/{CLAIM} is none of a FineTuneJob: choose another output.destination, or delete what lies there."
        )
        raise StageError(Outcome.CONFIG_INVALID, message) from error
    if found.owner != claim.owner:
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"{uri} belongs to another FineTuneJob, {found.name}: {_INSTEAD}.",
        )
