"""A stage whose workspace is kept in a bucket: what it needs is brought before it begins, what it made is put there.

Called by `__main__` around every stage that is told of a bucket (`--bucket`), so that no stage knows of one. What a
stage is killed in the middle of is as if it had not begun, but for what it keeps on the way: train its checkpoints,
each of which it tells of, and evaluate its answers, which are put every so often beside it.
"""

import logging
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from finetune_trainer import signals
from finetune_trainer.contract.config import Origin, Workspace
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data.cache import note_of
from finetune_trainer.data.parts import EVALUATED, MERGED, PREPARED, TRAINED, TRAINING, Parts, Superseded, bring

logger = logging.getLogger(__name__)


# A kill costs the answers of so many seconds, or, where putting them is slow, of twenty times what that takes.
KEEP_SECONDS = 30.0
KEEP_SHARE = 0.05


@dataclass(frozen=True)
class Carried:
    """The parts of the bucket that a stage reads and writes; `Carrier` takes them there and back.

    `needs` are brought before it starts. `makes` is put when it ended well, `keeps` while it runs and however it
    ends, but for what it makes, which takes its place.
    """

    needs: tuple[str, ...] = ()
    makes: str | None = None
    keeps: str | None = None

    @property
    def grows(self) -> bool:
        """Whether what it keeps is the one thing that it makes, and grows from its beginning to its end."""
        return self.keeps is not None and self.makes is None


STAGES = {
    "prepare": Carried(makes=PREPARED),
    "train": Carried((PREPARED,), makes=TRAINED, keeps=TRAINING),
    "publish": Carried((PREPARED, TRAINED)),
    "merge": Carried((PREPARED, TRAINED), makes=MERGED),
    "evaluate": Carried((PREPARED, TRAINED), keeps=EVALUATED),
}
# Whose credentials read what another FineTuneJob has made.
ORIGIN = "origin"
# The stage that makes a part.
_MADE_BY = {PREPARED: "prepare", TRAINED: "train"}


@dataclass(frozen=True)
class Carrier:
    """One stage's workspace, and its bucket. `done`: whether the stage is complete, as far as its marks tell."""

    stage: str
    workspace: Workspace
    uri: str
    done: Callable[[], object] = field(default=lambda: None)
    # Of the two threads that put; a signal may find the first one at it.
    _turn: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False, compare=False)

    @contextmanager
    def around(self) -> Iterator[None]:
        """While the block runs the stage, its files are here; then what it made is there. Raises StageError."""
        stage = STAGES[self.stage]
        self._bring((*stage.needs, *filter(None, [stage.makes])), self._is_mark)
        if self.done():
            yield
            if stage.keeps:
                self._parts.remove(stage.keeps)
            return
        self._bring_all(stage)
        try:
            with self._kept_on_stop(stage), self._kept_beside(stage):
                yield
        except BaseException:
            self.keep()
            raise
        with signals.handled(_finishing):
            self._put(stage)

    def keep(self) -> None:
        """Put what the stage keeps on the way. A bucket that can't be reached costs no more than that: the next time
        makes up for it. Raises StageError where another pod has taken this one's place.
        """
        stage = STAGES[self.stage]
        part = stage.keeps
        try:
            if part:
                with self._turn:
                    self._parts.put(part, self._paths(part), growing=stage.grows)
        except Superseded:
            raise
        except StageError as error:
            logger.warning("%s is not kept: %s", part, error.message)

    def _put(self, stage: Carried) -> None:
        if stage.makes and not self.done():
            self.keep()
            return
        # What a stage keeps is what it makes, if it makes nothing else: a report that is not there was not made.
        if made := stage.makes or stage.keeps:
            self._parts.put(made, self._paths(made))
        if stage.makes and stage.keeps:
            self._parts.remove(stage.keeps)

    def _bring_all(self, stage: Carried) -> None:
        found = self._bring((*stage.needs, *filter(None, [stage.keeps])), self._is_needed)
        for part in stage.needs:
            if part not in found:
                raise StageError(
                    Outcome.NOT_FOUND,
                    f"{self.uri}/{part} is not there, where {_MADE_BY[part]} has put it: somebody has removed it, or a "
                    "rule of the bucket has. Put it back, or set training.seed to another value, which is a new "
                    "revision.",
                )

    def _bring(self, parts: Sequence[str], wanted: Callable[[str], bool]) -> set[str]:
        return {part for part in parts if self._parts.bring(part, wanted)}

    @contextmanager
    def _kept_on_stop(self, stage: Carried) -> Iterator[None]:
        """A request to stop ends most stages at once: what they keep is put before that. train listens for itself."""
        former = signal.getsignal(signal.SIGTERM)
        if not stage.grows or not callable(former):
            yield
            return

        def stop(number: int, frame: object) -> None:
            # What was being put just then is taken for another pod's.
            with suppress(Superseded):
                self.keep()
            former(number, None)

        with signals.handled(stop):
            yield

    @contextmanager
    def _kept_beside(self, stage: Carried) -> Iterator[None]:
        """Put what grows every so often: nothing tells of a kill before it."""
        if not stage.grows:
            yield
            return
        ended = threading.Event()
        beside = threading.Thread(target=self._keep_until, args=(ended,), daemon=True)
        beside.start()
        try:
            yield
        finally:
            ended.set()
            beside.join()

    def _keep_until(self, ended: threading.Event) -> None:
        wait = KEEP_SECONDS
        while not ended.wait(wait):
            began = time.monotonic()
            try:
                self.keep()
            except Superseded as error:
                # The stage's own end says so, too.
                logger.warning("%s", error.message)
                return
            except OSError as error:
                logger.warning("What there is so far is not kept: %s", error)
            wait = max(KEEP_SECONDS, (time.monotonic() - began) / KEEP_SHARE)

    def _is_mark(self, path: str) -> bool:
        """What tells that a stage is complete; a link in the model's place is one, too."""
        space = self.workspace
        marks = (space.prepared, space.model, space.trained, space.trained_with, space.merged_with)
        return path in [mark.relative_to(space.root).as_posix() for mark in marks]

    def _is_needed(self, path: str) -> bool:
        """Checkpoints that are kept beside the artifact are for engines alone."""
        return not path.startswith(f"{self.workspace.kept.name}/")

    def _paths(self, part: str) -> list[Path]:
        space = self.workspace
        return {
            PREPARED: [space.model, note_of(space.model), space.data, space.trials, space.prepared, space.data_report],
            TRAINING: [space.checkpoints, space.trials, space.tensorboard],
            TRAINED: [space.artifact, space.kept, space.trials, space.tensorboard],
            MERGED: [space.merged, space.merged_with],
            EVALUATED: [space.evaluations],
        }[part]

    @cached_property
    def _parts(self) -> Parts:
        return Parts(self.uri, self.workspace.root)


@contextmanager
def started_from(origin: Origin | None) -> Iterator[None]:
    """While the block prepares, there are the files of the FineTuneJob that it starts from, if a bucket has those."""
    if origin is None or origin.bucket is None:
        yield
        return
    there = Workspace(origin.files)
    artifact = there.artifact if origin.step is None else there.checkpoint(origin.step)
    wanted = [artifact] if origin.base.path else [artifact, there.model]
    bring(origin.bucket, origin.files, [path.relative_to(there.root).as_posix() for path in wanted], ORIGIN)
    yield
    shutil.rmtree(origin.files)


def _finishing(number: int, frame: object) -> None:
    """What a stage made is put in the time that a pod has for its end; cut off, it is as if it had not been made."""
    logger.warning("Asked to stop, the stage puts what it made first.")
