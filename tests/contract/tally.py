"""What a user asked the API server for, counted from its audit log.

Counts are the API server's, so they hold whatever the operator believes that it does. Used by `test_scale` and by
`make benchmark-operator`.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

READS = {"get", "list"}
WRITES = {"create", "update", "patch", "delete", "deletecollection"}
CREATED = 201
# They are about the operator's replicas, and renewed every few seconds.
LEASES = "leases"


@dataclass(frozen=True)
class Call:
    """One request. `resource` has its subresource, as in `finetunejobs/status`; `body` is there in RECORDED alone."""

    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    began: datetime
    ended: datetime
    uri: str
    body: Any

    @property
    def status(self) -> bool:
        """Whether it writes a FineTuneJob's status."""
        return self.resource == "finetunejobs/status"


@dataclass(frozen=True, repr=False)
class Tally:
    """Some requests, counted."""

    calls: list[Call]

    @property
    def reads(self) -> int:
        """GETs and LISTs, one for each page; watches are none."""
        return sum(call.verb in READS for call in self.calls)

    @property
    def writes(self) -> list[Call]:
        """Everything that could change something."""
        return [call for call in self.calls if call.verb in WRITES]

    @property
    def status_writes(self) -> int:
        """Writes of a FineTuneJob's status."""
        return sum(call.status for call in self.writes)

    @property
    def events(self) -> int:
        """Events posted."""
        return sum(call.resource == "events" for call in self.writes)

    @property
    def object_writes(self) -> list[Call]:
        """Writes of what is made for a FineTuneJob."""
        return [call for call in self.writes if not call.status and call.resource != "events"]

    @property
    def made(self) -> list[Call]:
        """Those that made an object."""
        return [call for call in self.object_writes if call.code == CREATED]

    def __repr__(self) -> str:
        """Verb and resource, and how many."""
        counted = Counter(f"{call.verb} {call.resource}" for call in self.calls)
        return ", ".join(f"{count} {what}" for what, count in sorted(counted.items()))

    def jobs_per_second(self) -> float:
        """Jobs made a second, from the first write to the answer to the last of those applies."""
        made = [call for call in self.made if call.resource == "jobs"]
        took = max(call.ended for call in made) - min(call.began for call in self.writes)
        return len(made) / took.total_seconds()


class AuditLog:
    """The audit log of an API server, read on from where it was read to."""

    def __init__(self, path: Path, user: str) -> None:
        self._path, self._user, self._offset = path, user, 0

    def since(self) -> Tally:
        """What the user asked for since this was last called."""
        return Tally(list(self._read()))

    def _read(self) -> Iterator[Call]:
        with self._path.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                event = json.loads(line)
                about = event.get("objectRef", {}).get("resource", LEASES)
                if event["user"].get("username") == self._user and about != LEASES:
                    yield _call(event)


def _call(event: dict[str, Any]) -> Call:
    about = event["objectRef"]
    return Call(
        verb=event["verb"],
        resource="/".join(filter(None, (about["resource"], about.get("subresource")))),
        namespace=about.get("namespace", ""),
        name=about.get("name", ""),
        code=event["responseStatus"]["code"],
        began=datetime.fromisoformat(event["requestReceivedTimestamp"]),
        ended=datetime.fromisoformat(event["stageTimestamp"]),
        uri=event["requestURI"],
        body=event.get("requestObject"),
    )
