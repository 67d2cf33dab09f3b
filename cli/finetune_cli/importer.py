"""`finetune import`: another tool's configuration becomes a FineTuneJob, with a table of what became of each setting.

What it prints to stdout is the manifest; the table and what is wrong with the manifest so far go to stderr.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from finetune_operator.api.complaints import complaints
from finetune_operator.api.load import parse_yaml
from finetune_operator.api.v1alpha1 import API_VERSION, KIND, FineTuneJob
from pydantic import ValidationError
from rich.console import Console

from finetune_cli.errors import ExitCode, UserError
from finetune_cli.importing import autotrain, axolotl, llama_factory, openai, trl
from finetune_cli.importing.draft import Draft, object_name

UNNAMED = "imported"


class Tool(StrEnum):
    """Whose configuration it is."""

    AUTOTRAIN = "autotrain"
    TRL = "trl"
    AXOLOTL = "axolotl"
    LLAMA_FACTORY = "llama-factory"
    OPENAI = "openai"


@dataclass(frozen=True)
class _Form:
    """How a tool writes its configuration. `signs`: settings that only it has, of which one is enough."""

    title: str
    read: Callable[[Draft], None]
    signs: frozenset[str]
    flat: Callable[[Mapping[str, Any]], dict[str, Any]] = dict


# The first whose sign is there; TRL's own are last, for others have them, too.
_FORMS = {
    Tool.OPENAI: _Form(openai.NAME, openai.read, frozenset({"training_file"}), openai.flat),
    Tool.AUTOTRAIN: _Form(autotrain.NAME, autotrain.read, frozenset({"task"}), autotrain.flat),
    Tool.AXOLOTL: _Form(
        axolotl.NAME, axolotl.read, frozenset({"base_model", "micro_batch_size", "sequence_len", "val_set_size"})
    ),
    Tool.LLAMA_FACTORY: _Form(
        llama_factory.NAME, llama_factory.read, frozenset({"finetuning_type", "stage", "cutoff_len", "template"})
    ),
    Tool.TRL: _Form(trl.NAME, trl.read, frozenset({"model_name_or_path", "dataset_name"})),
}


@dataclass(frozen=True)
class ImportOptions:
    """What the user says beside the file: what it can't know, or what is better known here."""

    tool: Tool | None = None
    name: str = ""
    model: str = ""
    train: str = ""


def import_file(path: Path, options: ImportOptions, save: Path | None, out: Console, err: Console) -> int:
    """Read a configuration, print the manifest or save it, and tell what became of it; the exit code."""
    document = _document(path, options.tool)
    tool = options.tool or _recognised(path, document)
    form = _FORMS[tool]
    draft = Draft(form.flat(document), options.name)
    form.read(draft)
    draft.finish()
    draft.replace("--model", options.model, "model/source")
    draft.replace("--train", options.train, "dataset/train/source")
    manifest = _manifest(draft)
    text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True)
    if save:
        save.write_text(text)
    else:
        out.print(text, end="", markup=False, highlight=False, soft_wrap=True)
    wrong = _wrong(manifest)
    for line in (*_told(form.title, draft), *(f"Still to be mended: {sentence}" for sentence in wrong)):
        err.print(line, markup=False, highlight=False, soft_wrap=True)
    return ExitCode.USAGE if wrong else ExitCode.DONE


def _document(path: Path, tool: Tool | None) -> dict[str, Any]:
    """The settings in a file: YAML, JSON or a command line."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read: {error}", ExitCode.USAGE) from error
    try:
        documents = parse_yaml(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}", ExitCode.USAGE) from error
    if len(documents) == 1 and isinstance(documents[0], str) and tool in (None, Tool.TRL) and "--" in text:
        return trl.parse(text)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise UserError(
            f"{path} holds no settings: it has to be one YAML or JSON object, or TRL's command line.", ExitCode.USAGE
        )
    return documents[0]


def _recognised(path: Path, document: Mapping[str, Any]) -> Tool:
    for tool, form in _FORMS.items():
        if form.signs & document.keys():
            return tool
    names = ", ".join(tool.value for tool in Tool)
    raise UserError(f"{path} is of none of the tools that are known; --from names one of {names}.", ExitCode.USAGE)


def _manifest(draft: Draft) -> dict[str, Any]:
    sections = ("model", "dataset", "training", "evaluation", "hosting")
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": object_name(draft.name) or UNNAMED},
        "spec": {section: draft.spec[section] for section in sections if section in draft.spec},
    }


def _wrong(manifest: dict[str, Any]) -> tuple[str, ...]:
    try:
        FineTuneJob.model_validate_json(json.dumps(manifest), strict=True)
    except ValidationError as error:
        return tuple(complaints(error))
    return ()


def _told(title: str, draft: Draft) -> Iterator[str]:
    """A line for each setting, and for what follows from several."""
    yield f"What became of {title}'s settings:"
    for taken in draft.taken:
        became = taken.ours if taken.became is None else f"{taken.ours}: {_short(taken.became)}"
        yield _line(taken.theirs, taken.value, became + (f" ({taken.note})" if taken.note else ""))
    yield "Left out:"
    for left in draft.left:
        yield _line(left.theirs, left.value, left.why)


def _line(theirs: str, value: Any, became: str) -> str:
    return f"  {f'{theirs} {_short(value)}':<44} {became}"


def _short(value: Any) -> str:
    found = "" if value is None else value if isinstance(value, str) else json.dumps(value)
    return found if len(found) <= 60 else f"{found[:59]}…"
