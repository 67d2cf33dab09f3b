"""A FineTuneJob that is being made of somebody else's configuration, and what became of each of its settings.

Called by the tools' modules and the API server's `tuning`. A setting is taken, or left out for a reason that is told;
one that nobody looked at is told, too, so that nothing is dropped in silence.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from finetune_operator.api.values import Rank

UNKNOWN = "is not known to this importer: see whether it matters to you"
RANKS: tuple[int, ...] = get_args(Rank)
# Whose values are shown to nobody.
_SECRET = re.compile("token|secret|password|key$")


@dataclass(frozen=True)
class Field:
    """A setting that has a field here. `read`: their value as ours; None where nothing needs to be written."""

    ours: str
    read: Callable[[Any], Any] = lambda value: value
    note: str = ""


@dataclass(frozen=True)
class Taken:
    """A setting, its value, and the field that has it now with that field's value."""

    theirs: str
    value: Any
    ours: str
    became: Any
    note: str = ""


@dataclass(frozen=True)
class Left:
    """A setting that nothing here stands for, and why it is left out."""

    theirs: str
    value: Any
    why: str


@dataclass
class Draft:
    """`told`: their settings, of which those that were seen to are `seen`."""

    told: Mapping[str, Any]
    name: str = ""
    spec: dict[str, Any] = field(default_factory=dict)
    taken: list[Taken] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def get(self, theirs: str, default: Any = None) -> Any:
        """A setting's value; what is null, or isn't there, is the default."""
        found = self.told.get(theirs)
        return default if found is None else found

    def put(self, theirs: str, ours: str, value: Any, note: str = "") -> None:
        """Take a setting as this field. Empty `theirs`: it follows from others."""
        *sections, last = ours.split("/")
        at = self.spec
        for section in sections:
            at = at.setdefault(section, {})
        at[last] = value
        self.seen.add(theirs)
        self.taken.append(Taken(theirs, self.told.get(theirs), ours.replace("/", "."), value, note))

    def join(self, ours: str, *theirs: str) -> None:
        """Settings that made a field together with another one, or say no more than it does."""
        for name in theirs:
            if name not in self.seen and (value := self.get(name)) is not None:
                self.taken.append(Taken(name, value, ours, None))
            self.seen.add(name)

    def leave(self, theirs: str, why: str) -> None:
        """Leave a setting out, where there is one."""
        if theirs not in self.seen and (value := self.get(theirs)) is not None:
            self.left.append(Left(theirs, "…" if _SECRET.search(theirs) and isinstance(value, str) else value, why))
        self.seen.add(theirs)

    def replace(self, option: str, value: str, ours: str) -> None:
        """Take what the user said in an option of ours in place of the settings that made this field, if they did."""
        if not value:
            return
        dotted = ours.replace("/", ".")
        beaten = [each for each in self.taken if each.ours == dotted]
        self.taken = [each for each in self.taken if each.ours != dotted]
        self.left += [Left(each.theirs, each.value, f"{option} is given, and takes its place") for each in beaten]
        self.put("", ours, value, f"{option} says so")

    def take(self, fields: Mapping[str, Field]) -> None:
        """Every setting that has one field."""
        for theirs, found in fields.items():
            if theirs in self.seen or (value := self.get(theirs)) is None:
                continue
            if (became := found.read(value)) is None:
                self.leave(theirs, found.note)
            else:
                self.put(theirs, found.ours, became, found.note)

    def leave_all(self, reasons: Mapping[str, str]) -> None:
        """Every setting that has a reason of its own."""
        for theirs, why in reasons.items():
            self.leave(theirs, why)

    def finish(self) -> None:
        """Tell of what nobody looked at."""
        for theirs in self.told:
            self.leave(theirs, UNKNOWN)


def model_source(name: str) -> str:
    """The URI of what other tools call a model: a directory, or a name on the hub."""
    return f"file://{name}" if _is_path(name) else f"hf://{name}"


def rows_source(name: str, split: str = "train") -> str:
    """The URI of what other tools call a dataset: a file or a directory, or a name on the hub.

    A dataset on the hub is many files; nearly all have them in data/, named by their split.
    """
    if not _is_path(name):
        return f"hf://datasets/{name}/data/{split.rpartition(':')[2]}-*.parquet"
    return f"file://{name}" if re.search(r"\.\w+$", name.rpartition("/")[2]) else f"file://{name.rstrip('/')}/{split}.*"


def _is_path(name: str) -> bool:
    return (
        name.startswith((".", "/", "~")) or name.endswith("/") or bool(re.search(r"\.(jsonl?|csv|tsv|parquet)$", name))
    )


GUESSED = "the usual place of a split on the hub: see the dataset's Files, and correct it"


def rows_note(source: str) -> str:
    """What to say of such a source."""
    return GUESSED if source.startswith("hf://") else ""


def object_name(text: str) -> str:
    """A name that Kubernetes takes."""
    found = re.sub(r"[^a-z0-9]+", "-", text.lower().rpartition("/")[2]).strip("-")
    found = found if found[:1].isalpha() else f"job-{found}".rstrip("-")
    return found[:40].rstrip("-")


def rank(value: Any) -> int:
    """The smallest rank that is served and holds as much."""
    return next((each for each in RANKS if each >= int(value)), RANKS[-1])


def modules(value: Any) -> list[str]:
    """Names of modules: a list, or one string with commas."""
    return [each.strip() for each in value.split(",")] if isinstance(value, str) else [str(each) for each in value]


def number(value: Any) -> float | int:
    """YAML and command lines write 2e-4 as a word."""
    found = float(value)
    return int(found) if found.is_integer() and abs(found) >= 1 else found


def batch(draft: Draft, rows: str, steps: str, default: int) -> None:
    """Rows per step: theirs count for one device and one pass, ours for all."""
    accumulated = int(draft.get(steps, 1))
    if draft.get(rows) is None and draft.get(steps) is None:
        return
    each = int(draft.get(rows, default))
    note = f"{each} rows a pass, {accumulated} passes a step, on one device: multiply it by your devices"
    draft.put(rows, "training/batchSize", each * accumulated, note)
    draft.join("training.batchSize", steps)


def orpo(draft: Draft) -> None:
    """What stands in for it."""
    draft.put("", "training/dpo/lossType", ["sigmoid", "sft"], "ORPO is there as DPO with SFT mixed in")


def trackers(draft: Draft, theirs: str) -> None:
    """Where training is followed from outside."""
    wanted = draft.get(theirs)
    names = modules(wanted) if wanted is not None else []
    if "tensorboard" in names:
        draft.put(theirs, "training/tracking", {"type": "tensorboard"})
    elif names and names != ["none"]:
        draft.leave(
            theirs, "mlflow, tensorboard, trackio and wandb are there: see training.tracking, for url and credentials"
        )
    else:
        draft.join("training.tracking", theirs)
