"""Files that are whole or absent, and that outlive a loss of power where anything says that they are there."""

import os
from pathlib import Path
from uuid import uuid4


def fsync(path: Path) -> None:
    """Flush a file, or a directory's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a small file that is whole or absent, whoever else writes it at once: on another machine, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{uuid4().hex}")
    try:
        draft.write_text(text, "utf-8")
        draft.replace(path)
    except OSError:
        # Each try on a full disk would leave another.
        draft.unlink(missing_ok=True)
        raise


def install(staged: Path, final: Path) -> None:
    """Make the directory `staged` durable and give it its final name; `final` must not exist."""
    for path in staged.rglob("*"):
        fsync(path)
    fsync(staged)
    staged.rename(final)
    fsync(final.parent)
