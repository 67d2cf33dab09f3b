"""Who asks: keys by their SHA-256, each for one namespace and some rights.

They stand in a Secret that is mounted as a directory, an entry for each key, so that the server needs no right to read
Secrets. A key itself is stored nowhere and logged nowhere. `callers` looks them up.
"""

import hmac
import logging
import time
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from finetune_operator.api.values import SUBDOMAIN
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from finetune_server.limits import Limits

logger = logging.getLogger(__name__)

# File systems tell times to a few milliseconds, some to a second or two.
_TICK_NANOSECONDS = 2 * 10**9


class Right(StrEnum):
    """What a key may be for."""

    READ = "read"
    """To list and read files, jobs and models."""
    WRITE = "write"
    """To upload and delete files, to create, cancel, pause and resume jobs, and to undeploy models."""
    ASK = "ask"
    """To ask models."""


class Entry(BaseModel):
    """An entry of the Secret: whose key it is that has this digest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    namespace: Annotated[str, Field(max_length=63, pattern=f"^{SUBDOMAIN}$")]
    rights: frozenset[Right] = frozenset(Right)
    limits: Limits = Limits()

    def limited(self, otherwise: Limits) -> Limits:
        """Its own limits, and those that it says nothing of."""
        return otherwise.model_copy(update={name: getattr(self.limits, name) for name in self.limits.model_fields_set})


class Keys:
    """The keys in a directory. What the kubelet writes there anew counts from the next request on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: tuple[int, dict[str, Entry]] = (-1, {})

    def find(self, key: str) -> tuple[str, Entry] | None:
        """Whose key it is; None where nobody knows it."""
        digest = sha256(key.encode()).hexdigest()
        # All of them are compared, so that how long it takes tells nothing of any.
        found = [(name, entry) for name, entry in self._entries().items() if hmac.compare_digest(digest, entry.sha256)]
        return found[0] if found else None

    def _entries(self) -> dict[str, Entry]:
        # The kubelet replaces a mounted Secret whole, by a link in its directory.
        try:
            changed = self._directory.stat().st_mtime_ns
        except FileNotFoundError:
            return {}
        if changed != self._read[0]:
            files = (each for each in self._directory.iterdir() if not each.name.startswith(".") and each.is_file())
            found = {path.name: entry for path in sorted(files) if (entry := _entry(path))}
            # Another change within the same tick of the clock would look like none: what is this new is read again.
            settled = time.time_ns() - changed > _TICK_NANOSECONDS
            self._read = (changed if settled else -1, found)
        return self._read[1]


def _entry(path: Path) -> Entry | None:
    """An entry; one that is wrong opens nothing, and the log says which it is."""
    try:
        return Entry.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError) as error:
        wrong = (
            ", ".join(sorted({str(each["loc"][0]) for each in error.errors() if each["loc"]}))
            if isinstance(error, ValidationError)
            else "its encoding"
        )
        logger.warning("Entry %s of the Secret of keys is left out: wrong is %s", path.name, wrong or "its JSON")
        return None
