"""What others say of an error, without what lets one in: credentials of this process, and those in addresses.

Whatever leaves a process as text goes through here: the termination message and the log of a stage (`stages.frame`,
`__main__`), what an Engine's status says of adapters (`stages.adapters`), the sentences that quote a library
(`data.fetch_errors`), and the API server's log.
"""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from urllib.parse import quote

HIDDEN = "[hidden]"
# The variables that hold credentials, by the ends of their names: ours, and those that libraries read by themselves.
_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|KEY_ID|CONNECTION_STRING|CREDENTIALS_JSON)$")
# Whatever is shorter is a part of words, and no secret that keeps anybody out.
_SHORTEST = 6
_USER = re.compile(r"(?<=://)[^\s/?#'\"<>]+@")
# What follows the path of an address: a signed one's signature is there.
_QUERY = re.compile(r"(?<=[\w/])\?[^\s'\"<>]+=[^\s'\"<>]*")
_HEADER = re.compile(r"\b(Bearer|Basic) [\w.~+/=-]{8,}", re.IGNORECASE)
# Of a credential that is made of several: an Azure connection string's, and a service account's in JSON.
_PART = re.compile(r"\w*(?:Key|Signature|Password)=([^;]+)", re.IGNORECASE)
_MEMBER = re.compile(r"key|secret|token|password", re.IGNORECASE)


def redacted(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The same text, without them."""
    found = _HEADER.sub(rf"\1 {HIDDEN}", _QUERY.sub("", _USER.sub("", text)))
    for value in _given(environment):
        found = found.replace(value, HIDDEN)
    return found


def _given(environment: Mapping[str, str]) -> list[str]:
    return _hidden(tuple(value.strip() for name, value in environment.items() if _SECRET.search(name)))


@lru_cache(maxsize=1)
def _hidden(values: tuple[str, ...]) -> list[str]:
    """The longest first: one may be a part of another. Each line of a log asks for the same."""
    found = {form for value in values for part in _parts(value) for form in _forms(part)}
    return sorted((each for each in found if len(each) >= _SHORTEST), key=len, reverse=True)


def _parts(value: str) -> Iterator[str]:
    """A credential, and what of it lets one in by itself."""
    yield value
    yield from value.split("\n")
    yield from _PART.findall(value)
    with suppress(ValueError):
        members = json.loads(value)
        for name, member in members.items() if isinstance(members, dict) else ():
            if isinstance(member, str) and _MEMBER.search(name):
                yield from (member, *member.split("\n"))


def _forms(value: str) -> tuple[str, ...]:
    """As it is, and as Python, JSON and addresses quote it."""
    return value, repr(value)[1:-1], json.dumps(value)[1:-1], quote(value, safe="")


def guard_log() -> None:
    """Have the program's log go through here, as it is configured now."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(Redacting(handler.formatter or logging.Formatter()))


class Redacting(logging.Formatter):
    """Writes records as another does, without credentials, tracebacks included."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        """One record, as it may be read by all."""
        return redacted(self._formatter.format(record))
