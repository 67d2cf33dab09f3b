"""prepare makes of a row with one answer what TRL makes of it, token by token, and train takes it as it is."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from finetune_trainer.contract.config import DatasetConfig, ModelConfig, RunConfig, Source, TrainingConfig, Workspace
from finetune_trainer.contract.results import PrepareResult
from finetune_trainer.data.tokens import IGNORED
from finetune_trainer.server import Reporter
from finetune_trainer.stages.prepare import prepare
from finetune_trainer.training import rows
from trainings import chat
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

# Of the longest chats it cuts the end of the answer, or all of it.
MAX_LENGTH = 26
QUESTION = {"prompt": "what colour is the sky ?", "completion": "blue"}
ALPACA = {"instruction": "list the colour of", "input": "the grass", "output": "green"}
TOOLS = "{% if tools %}{% for tool in tools %}{{ tool['function']['name'] }} {% endfor %}{% endif %}"
TOOL = {"type": "function", "function": {"name": "colour", "description": "of a thing", "parameters": {}}}
CASES: dict[str, tuple[dict[str, Any], bool, str]] = {
    "chat": (chat("sky", "blue"), True, "blue <|im_end|>"),
    "chat with tools": (chat("sky", "blue") | {"tools": [TOOL]}, True, "blue <|im_end|>"),
    "prompt-completion": (QUESTION, True, "blue <|im_end|>"),
    "instruction": (ALPACA, True, "green <|im_end|>"),
    "prompt-completion without a template": (QUESTION | {"prompt": "the sky "}, False, "blue <|im_end|>"),
    "instruction without a template": (ALPACA | {"output": " green"}, False, "green <|im_end|>"),
    "text": ({"text": "snow is white"}, False, "snow is white <|im_end|>"),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, base_model: Path, tmp_path: Path) -> tuple[RunConfig, str]:
    """A run config over ten rows and one that is longer and may be cut, and what of the first row is to be learned."""
    row, template, learned = CASES[request.param]
    model = tmp_path / "model"
    shutil.copytree(base_model, model)
    stored = model / "chat_template.jinja"
    if template:
        stored.write_text(TOOLS + stored.read_text())
    else:
        stored.unlink()
    longer = json.loads(json.dumps(row).replace(" the ", " the the the "))
    (tmp_path / "train.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in [row] * 10 + [longer]))
    config = RunConfig(
        name="colours",
        revision="0a1b2c3d",
        model=ModelConfig(source=Source(uri="pvc://models/tiny", path=model)),
        dataset=DatasetConfig(train=Source(uri="pvc://data/train.jsonl", path=tmp_path / "train.jsonl")),
        training=TrainingConfig(max_length=MAX_LENGTH),
    )
    return config, learned


def by_trl(config: RunConfig, workspace: Workspace) -> Dataset:
    """The rows as TRL tokenizes, labels and cuts them itself."""
    model = workspace.base_model(config)
    lines = (workspace.data / "train.jsonl").read_text().splitlines()
    settings = SFTConfig(output_dir=str(workspace.root), max_length=MAX_LENGTH, use_cpu=True, report_to="none")
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=settings,
        train_dataset=Dataset.from_list([ask_and_answer(json.loads(line)) for line in lines]),
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    return trainer.train_dataset


def ask_and_answer(row: dict[str, Any]) -> dict[str, Any]:
    """A chat with one answer as TRL takes it, to learn the answer alone."""
    if "messages" not in row:
        return row
    *prompt, answer = row.pop("messages")
    return row | {"prompt": prompt, "completion": [answer]}


def test_a_row_with_one_answer_is_as_trl_makes_it(case: tuple[RunConfig, str], tmp_path: Path) -> None:
    config, learned = case
    workspace = Workspace(tmp_path / "workspace")
    workspace.root.mkdir()

    found: PrepareResult = prepare(config, workspace, Reporter("prepare"))
    taken = rows.load(workspace).train

    expected = by_trl(config, workspace)
    assert (taken["input_ids"][:], taken["labels"][:]) == (expected["input_ids"][:], expected["labels"][:])
    lengths = rows.lengths(taken)
    assert (found.dataset.rows.train, found.dataset.tokens) == (len(lengths), sum(lengths))
    labels = [label for label in taken[0]["labels"] if label != IGNORED]
    assert AutoTokenizer.from_pretrained(workspace.base_model(config)).decode(labels).strip() == learned
