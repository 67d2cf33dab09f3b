"""What to do next about the adapters of an engine's pod, from what is wanted and what there is. Pure; `adapters` acts.

What is wanted is loaded first, then names are pointed at it, and only then goes what nobody asks for any more: so no
name is without a model for a moment in which it had one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from finetune_trainer.contract.adapters import HeldAdapters, PublishedAdapter, WantedAdapters

# A request may have been sent to an adapter in the moment before its name was pointed at another one.
REST_SECONDS = 5.0
# And a client goes on with the connection that it has, to a name that is served elsewhere by now.
LEAVES_SECONDS = 60.0
# And an engine reads the files of one again that it has pushed out of its memory while requests for it were waiting.
KEPT_SECONDS = 60.0
# How often what may pass is tried before a pod is ready without it; it is tried again ever after. And how long, where
# users ask for it by a name: whatever its pod takes the place of may have it.
TRIES, PATIENCE_SECONDS = 3, 600.0
LONGEST_PAUSE_SECONDS, LONGEST_LASTING_PAUSE_SECONDS = 30.0, 600.0


@dataclass(frozen=True)
class Failure:
    """Why an adapter could not be loaded, how often in a row and since when, and when to try again.

    `lasting`: trying may not help.
    """

    message: str
    tries: int
    since: float
    again: float
    lasting: bool

    def final(self, named: bool, now: float) -> bool:
        """Whether others need not wait any longer for this one, which users ask for by a name or not."""
        return self.lasting or (now - self.since >= PATIENCE_SECONDS if named else self.tries >= TRIES)


@dataclass(frozen=True)
class Observed:
    """What there is. `engine`: the directory of each adapter that it has, by name; `there`: those that are complete;
    `fetching`: those under way; `aliases`: in force; `leaving`: of these, since when nobody wants one; `closing`: those
    whose clients are told to take another connection; `busy`: adapters with requests.

    `resting`: since when nobody is sent to an adapter of the engine that nobody wants; `left`: since when a directory
    is nobody's.
    """

    engine: Mapping[str, str] = field(default_factory=dict)
    there: frozenset[str] = frozenset()
    fetching: frozenset[str] = frozenset()
    failures: Mapping[PublishedAdapter, Failure] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    leaving: Mapping[str, float] = field(default_factory=dict)
    closing: frozenset[str] = frozenset()
    busy: frozenset[str] = frozenset()
    resting: Mapping[str, float] = field(default_factory=dict)
    left: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Fetch:
    """Bring an adapter's files."""

    adapter: PublishedAdapter


@dataclass(frozen=True)
class Load:
    """Have the engine load it. `instead`: of another one of that name, which it has."""

    adapter: PublishedAdapter
    instead: bool


@dataclass(frozen=True)
class SetAliases:
    """Let names stand for adapters. `closing`: those whose clients should take another connection."""

    aliases: Mapping[str, str]
    closing: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Unload:
    """Have the engine forget an adapter."""

    name: str


@dataclass(frozen=True)
class Remove:
    """Remove a directory."""

    directory: str


Step = Fetch | Load | SetAliases | Unload | Remove


def directory(adapter: PublishedAdapter) -> str:
    """Where its files lie. Other weights have another place, whatever their name: the engine tells what it has computed
    of a prompt by name and path, and would take it for theirs.
    """
    return f"{adapter.name}@{adapter.digest.rpartition(':')[2][:12]}"


def name_of(directory: str) -> str:
    """Whose files lie there."""
    return directory.partition("@")[0]


def steps(wanted: WantedAdapters, seen: Observed, now: float) -> list[Step]:
    """All that can be done at once; what follows from it is decided anew."""
    aliases = _aliases(wanted, seen, now)
    return [
        *_brought(wanted, seen, now),
        *([aliases] if (aliases.aliases, aliases.closing) != (seen.aliases, seen.closing) else ()),
        *(Unload(name) for name, since in seen.resting.items() if now - since >= REST_SECONDS),
        *(Remove(found) for found, since in seen.left.items() if now - since >= KEPT_SECONDS),
    ]


def leaving(wanted: WantedAdapters, seen: Observed) -> frozenset[str]:
    """The names in force that nobody wants any more."""
    return frozenset(seen.aliases.keys() - wanted.aliases.keys())


def resting(wanted: WantedAdapters, seen: Observed) -> frozenset[str]:
    """The adapters of the engine that nobody wants, and that no name stands for."""
    names = {adapter.name for adapter in wanted.adapters}
    return frozenset(seen.engine.keys() - names - set(seen.aliases.values()))


def left(wanted: WantedAdapters, seen: Observed) -> frozenset[str]:
    """The directories that nobody wants and that the engine has no use for."""
    kept = {directory(adapter) for adapter in wanted.adapters} | set(_places(seen.engine.values())) | seen.fetching
    return frozenset(found for found in seen.there - kept if name_of(found) not in seen.busy)


def has(seen: Observed, adapter: PublishedAdapter) -> bool:
    """Whether the engine has it, and not another one of its name."""
    return _place(seen.engine.get(adapter.name, "")) == directory(adapter)


def settled(wanted: WantedAdapters, seen: Observed, now: float) -> bool:
    """Whether a pod has all that it can have."""
    named = set(wanted.aliases.values())
    missing = [adapter for adapter in wanted.adapters if not has(seen, adapter)]
    failed = all(
        adapter in seen.failures and seen.failures[adapter].final(adapter.name in named, now) for adapter in missing
    )
    return failed and _aliases(wanted, seen, now).aliases == seen.aliases


def held(wanted: WantedAdapters, seen: Observed) -> HeldAdapters:
    """What to tell of it."""
    loaded = tuple(adapter.name for adapter in wanted.adapters if has(seen, adapter))
    failed = {adapter.name: seen.failures[adapter].message for adapter in wanted.adapters if adapter in seen.failures}
    return HeldAdapters(loaded=loaded, aliases=seen.aliases, failed=failed)


def failure(before: Failure | None, message: str, lasting: bool, now: float) -> Failure:
    """One more."""
    tries, since = (before.tries + 1, before.since) if before else (1, now)
    longest = LONGEST_LASTING_PAUSE_SECONDS if lasting else LONGEST_PAUSE_SECONDS
    return Failure(message, tries, since, now + min(2.0 ** min(tries, 10), longest), lasting)


def _brought(wanted: WantedAdapters, seen: Observed, now: float) -> Iterable[Step]:
    for adapter in wanted.adapters:
        failed, place = seen.failures.get(adapter), directory(adapter)
        if has(seen, adapter) or place in seen.fetching or (failed and now < failed.again):
            continue
        yield Load(adapter, adapter.name in seen.engine) if place in seen.there else Fetch(adapter)


def _aliases(wanted: WantedAdapters, seen: Observed, now: float) -> SetAliases:
    """Each name stands for what it should as soon as that is there, and until then for what it did; one that nobody
    wants goes on for a while.
    """
    there = {adapter.name for adapter in wanted.adapters if has(seen, adapter)}
    found = {}
    for alias, name in wanted.aliases.items():
        before = seen.aliases.get(alias, "")
        if name in there:
            found[alias] = name
        elif before in seen.engine:
            found[alias] = before
    going = {alias for alias, since in seen.leaving.items() if now - since < LEAVES_SECONDS}
    kept = {alias: name for alias, name in seen.aliases.items() if alias in going and name in seen.engine}
    return SetAliases(found | kept, frozenset(kept))


def _places(paths: Iterable[str]) -> Iterable[str]:
    return (_place(path) for path in paths)


def _place(path: str) -> str:
    return PurePosixPath(path).name
