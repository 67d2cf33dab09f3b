"""Files of text, compressed or not, read as the bytes that were compressed. Used by `formats`."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from finetune_trainer.contract.outcome import Outcome, StageError


@contextmanager
def opened(path: Path, name: str) -> Iterator[IO[bytes]]:
    """The content of a file whose `name` says how it is compressed. Raises StageError (DATA_INVALID), inside too."""
    compressed = Path(name).suffix.lower()
    opener = OPENERS.get(compressed)
    if opener is None:
        with path.open("rb") as content:
            yield content
        return
    try:
        with opener(path) as content:
            yield content
    except (OSError, EOFError, zlib.error) as error:
        raise StageError(
            Outcome.DATA_INVALID,
            f"{name} can't be decompressed as {compressed}: {str(error).rstrip('.')}. It may have been cut off "
            "while it was copied, or have another ending than its content.",
        ) from error


def _gzip(path: Path) -> Any:
    return gzip.open(path, "rb")


def _zstandard(path: Path) -> Any:
    import pyarrow

    return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))


OPENERS: dict[str, Callable[[Path], Any]] = {".gz": _gzip, ".zst": _zstandard}
