"""Multiplies what stands in etcd: one FineTuneJob at rest, with all that was made for it, becomes ten thousand.

A copy is the original byte for byte, managed fields, status and owners included; only names, uids, cluster IPs and the
digests of what was applied are others, each of the same length, so that protobuf's length prefixes stay true. That is
what the cluster would hold if each had gone through the stages, in minutes instead of hours. Used by
`make benchmark-operator`.
"""

import json
import re
import urllib.request
import uuid
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, product, zip_longest
from typing import Any

from control_plane import PATIENCE, RECORDED
from finetune_operator import names
from many import name_of
from tally import Call

UID = rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# In the range that the API server gives to Services.
ADDRESS = rb"10\.(?:9[6-9]|10\d|11[01])\.\d{1,3}\.\d{1,3}"
SERVICES, ADDRESSES, EVENTS = b"/registry/services/", b"/registry/ipaddresses/", b"/registry/events/"
# Requests at a time; each holds one copy.
AT_ONCE = 4

Pairs = list[tuple[bytes, bytes]]


def multiply(etcd: str, writes: list[Call], count: int) -> None:
    """Copy the FineTuneJob of number 0 until there are `count`; it is in RECORDED, and made by these writes.

    Nobody else may change anything meanwhile.
    """
    name = name_of(0).encode()
    originals = [pair for pair in _everything(etcd) if _belongs(pair, name)]
    uid = next(call.body["metadata"]["uid"] for call in writes if call.status)
    applied = _applied(writes)
    addresses = _addresses(originals)
    parts = _parts(originals, (name, *map(str.encode, applied)))

    def new(number: int) -> dict[bytes, bytes]:
        copy = name_of(number), str(uuid.uuid4())
        new = {name_of(0): copy[0], uid: copy[1]}
        for digest, text in applied.items():
            _, new[digest] = _digest(json.loads(text.replace(name_of(0), copy[0]).replace(uid, copy[1])))
        told = {old.encode(): text.encode() for old, text in new.items()}
        return told | {address: next(free) for address, free in addresses.items()}

    copies = (_copy(parts, new(number)) for number in range(1, count))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(lambda pairs: _put(etcd, pairs), copies):
            pass


def _belongs(pair: tuple[bytes, bytes], name: bytes) -> bool:
    key, value = pair
    if key.startswith(ADDRESSES):
        return name in value
    return f"/{RECORDED}/".encode() + name in key and not key.startswith(EVENTS)


def _applied(writes: list[Call]) -> dict[str, str]:
    """What was applied with a digest of itself, by that digest."""
    found = {}
    for call in writes:
        if call.verb == "patch" and names.APPLIED in call.body["metadata"].get("annotations", {}):
            stamped, digest = _digest(call.body)
            assert digest == stamped, f"what digest is on {call.uri}?"
            found[digest] = json.dumps(call.body)
    return found


def _digest(manifest: dict[str, Any]) -> tuple[str, str]:
    """The digest that a manifest carries, and the one that belongs on it."""
    metadata = dict(manifest["metadata"])
    annotations = dict(metadata.pop("annotations"))
    carried = annotations.pop(names.APPLIED)
    metadata |= {"annotations": annotations} if annotations else {}
    return carried, names.digest({**manifest, "metadata": metadata})


def _addresses(originals: Pairs) -> dict[bytes, Iterator[bytes]]:
    """The cluster IPs of the originals, and for each the IPs of its length that are still free."""
    found = {text for key, value in originals if key.startswith(SERVICES) for text in re.findall(ADDRESS, value)}
    free = {length: _free(length, found) for length in map(len, found)}
    return {text: free[len(text)] for text in found}


def _free(length: int, taken: set[bytes]) -> Iterator[bytes]:
    for a, b, c in product(range(96, 112), range(1, 255), range(1, 255)):
        text = f"10.{a}.{b}.{c}".encode()
        if len(text) == length and text not in taken:
            yield text


def _parts(originals: Pairs, words: Iterable[bytes]) -> list[list[list[bytes]]]:
    """Each key and value cut where something is to be replaced: every second part is one."""
    pattern = re.compile(b"(" + b"|".join((UID, ADDRESS, *words)) + b")")
    return [[pattern.split(text) for text in pair] for pair in originals]


def _copy(parts: list[list[list[bytes]]], new: dict[bytes, bytes]) -> Pairs:
    """One more of them; what `new` has nothing for is a uid, and replaced by any."""

    def joined(text: list[bytes]) -> bytes:
        replaced = [new.get(part) or new.setdefault(part, str(uuid.uuid4()).encode()) for part in text[1::2]]
        return b"".join(chain.from_iterable(zip_longest(text[::2], replaced, fillvalue=b"")))

    return [(joined(key), joined(value)) for key, value in parts]


def _everything(etcd: str) -> Pairs:
    found = _ask(etcd, "range", {"key": _text(b"/registry/"), "range_end": _text(b"/registry0")})
    return [(b64decode(pair["key"]), b64decode(pair["value"])) for pair in found["kvs"]]


def _put(etcd: str, pairs: Pairs) -> None:
    puts = [{"requestPut": {"key": _text(key), "value": _text(value)}} for key, value in pairs]
    _ask(etcd, "txn", {"success": puts})


def _ask(etcd: str, what: str, body: object) -> dict[str, list[dict[str, str]]]:
    request = urllib.request.Request(f"{etcd}/v3/kv/{what}", data=json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return dict(json.load(answer))


def _text(raw: bytes) -> str:
    return b64encode(raw).decode()
