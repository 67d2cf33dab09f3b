"""All rows of one source: read, checked, made examples and left on disk, with what is odd about them.

Called by `prepare`. A dataset with bad rows is refused whole, with the first twenty faults and how many more there are:
nothing is dropped or repaired in silence.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data import spool
from finetune_trainer.data.batch import Made, Reading
from finetune_trainer.data.findings import Finding
from finetune_trainer.data.line import Faults, Line
from finetune_trainer.data.notices import Notices
from finetune_trainer.data.spool import Spool


def gather(
    lines: Iterable[Line],
    uri: str,
    reading: Reading,
    made: Callable[[Iterable[Line]], Iterable[Made]],
    path: Path,
    told: Callable[[int], None] = lambda rows: None,
) -> tuple[Spool, list[Finding]]:
    """Make examples of all `lines` of `uri`, and keep them at `path`. `made`: `batch.each`, or `batch.make` of one.

    `told` hears how many rows are done. Raises StageError (DATA_INVALID) when any row is wrong, or there is none.
    """
    notices = Notices(Path(uri).name, reading.shape)
    faults = Faults()
    rows = 0
    with spool.writing(path) as file:
        for batch in made(notices.lines(lines)):
            faults.add(batch.faults)
            if not faults.count:
                file.write_batch(batch.examples)
                places = batch.examples.column("place").to_pylist()
                for place, length, odd in zip(places, batch.lengths, batch.odd, strict=True):
                    notices.add(place, length, odd)
            rows += batch.rows
            told(rows)
    if faults.count:
        raise StageError(Outcome.DATA_INVALID, faults.told(uri))
    if not rows:
        raise StageError(Outcome.DATA_INVALID, f"{uri} has no rows.")
    return Spool(path), notices.findings()
