"""Where a fetched base model is put: into the revision's workspace, or into a directory that others read, too.

Called by `fetch`. In a shared directory a model lies under a name that tells what it is, so that another commit is
another directory; what has its name is complete, for it is brought beside its place and renamed.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

Download = Callable[[Path], object]


@dataclass(frozen=True)
class ModelDirectory:
    """Where a model is to be found: at `target`, which is a link where it is kept in the directory `shared`."""

    target: Path
    shared: Path | None

    def bring(self, identity: str, versions: Sequence[str], download: Download) -> None:
        """Have the model there. `identity`: its address. `versions`: all that its files depend on beside that."""
        if self.shared is None:
            self._alone(identity, download)
        else:
            self._link(_shared(self.shared / _name(identity, versions), download))

    def _alone(self, identity: str, download: Download) -> None:
        """What an earlier run brought of the same model is kept, and nothing of another."""
        note = note_of(self.target)
        if self.target.is_symlink() or not note.exists() or note.read_text() != identity:
            self._clear()
            self.target.mkdir(parents=True)
            note.write_text(identity)
        download(self.target)

    def _link(self, place: Path) -> None:
        if not (self.target.is_symlink() and self.target.readlink() == place):
            self._clear()
            self.target.symlink_to(place)

    def _clear(self) -> None:
        if self.target.is_symlink():
            self.target.unlink()
        else:
            shutil.rmtree(self.target, ignore_errors=True)


def note_of(target: Path) -> Path:
    """The file beside a model that says which it is."""
    return target.with_name(f"{target.name}.source")


def _shared(place: Path, download: Download) -> Path:
    """The model's own directory; of many who want it one brings it, while the others wait."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        if not place.exists():
            partial = place.with_name(f"{place.name}.partial")
            partial.mkdir(exist_ok=True)
            download(partial)
            partial.rename(place)
    # Whoever makes room there looks for what nobody has asked for in a long time.
    os.utime(place)
    return place


def _name(identity: str, versions: Sequence[str]) -> str:
    """Readable, and never another model's."""
    words = re.sub(r"[^a-zA-Z0-9.]+", "-", identity.partition("://")[2]).strip("-.")[-80:]
    return f"{words}-{hashlib.sha256(chr(10).join((identity, *versions)).encode()).hexdigest()[:12]}"
