"""What a training's passes are, and what follows when they were too much: smaller ones, once; then the user is told.

Pure; `fitting` keeps an Attempt beside the checkpoints and asks here. A run that goes on takes the passes that it began
with, whatever memory it finds, so that its weights are the same.
"""

from dataclasses import dataclass

from finetune_trainer.contract.config import Contract
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.training.memory import GIB, Pass, TrainingFootprint

# How often smaller passes are tried.
RETRIES = 1


class Attempt(Contract):
    """The passes of a training, chosen for a device with so much memory. `ran_out`: what was too much, in a sentence.

    `given_up`: the last failure was told to the user, and whoever starts the training again wants another try.
    """

    memory: int
    tokens: int
    recompute: bool
    ran_out: tuple[str, ...] = ()
    given_up: bool = False

    @property
    def passes(self) -> Pass:
        """What it takes at once."""
        return Pass(self.tokens, self.recompute)

    @property
    def notice(self) -> str:
        """What became of earlier passes."""
        return " ".join(self.ran_out)

    @property
    def words(self) -> str:
        """The same for people."""
        return f"up to {self.tokens} tokens at once{', activations recomputed' if self.recompute else ''}"


@dataclass(frozen=True)
class Ended:
    """A training that ran out of memory: what to keep of it, and what it ends with."""

    attempt: Attempt
    error: StageError


def begin(training: TrainingFootprint, before: Attempt | None) -> Attempt:
    """What to try. Raises StageError (OUT_OF_MEMORY) where not even the longest row would fit."""
    memory = training.device.memory or 0
    if before is not None and not before.given_up:
        return before
    chosen = training.chosen or training.least
    if before is not None and memory <= before.memory:
        # It was too much then.
        chosen = training.smaller(before.passes) or before.passes
    return Attempt(memory=memory, tokens=chosen.tokens, recompute=chosen.recompute)


def ran_out(training: TrainingFootprint, before: Attempt, what: str, remedy: str) -> Ended:
    """What follows. `what`: a sentence's beginning, that says what ran out; `remedy`: what a user can do about it."""
    smaller = training.smaller(before.passes)
    if smaller is None or len(before.ran_out) >= RETRIES:
        message = " ".join((*before.ran_out, f"{what}, with {before.words}: {remedy}."))
        return Ended(
            before.model_copy(update={"given_up": True, "ran_out": ()}), StageError(Outcome.OUT_OF_MEMORY, message)
        )
    after = before.model_copy(update={"tokens": smaller.tokens, "recompute": smaller.recompute})
    said = f"{what}, with {before.words}; the next run goes on from the last checkpoint with {after.words}."
    kept = after.model_copy(update={"ran_out": (*before.ran_out, said)})
    return Ended(kept, StageError(Outcome.SMALLER_PASSES, said))


def killed(held: int, memory: int) -> str:
    """What a mark means that a killed process left."""
    return f"Training was killed while it held {held / GIB:.1f} of {memory / GIB:.1f} GiB of memory"
