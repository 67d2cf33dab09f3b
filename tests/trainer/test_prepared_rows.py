"""prepare and train agree: tokens are counted as TRL makes them, and the loss falls where prepare's formats say."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from finetune_trainer.contract.config import DatasetConfig, ModelConfig, RunConfig, Source, Workspace
from finetune_trainer.contract.report import PrepareResult
from finetune_trainer.server import Reporter
from finetune_trainer.stages.prepare import prepare
from finetune_trainer.training import rows
from trainings import chat, write
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

# The label that a loss skips, in torch's words its ignore_index.
IGNORED = -100
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
    """A run config over ten rows and one that is longer, and what of the first row is to be learned."""
    row, template, learned = CASES[request.param]
    model = tmp_path / "model"
    shutil.copytree(base_model, model)
    stored = model / "chat_template.jinja"
    if template:
        stored.write_text(TOOLS + stored.read_text())
    else:
        stored.unlink()
    longer = json.loads(json.dumps(row).replace(" the ", " the the the "))
    write(tmp_path / "train.jsonl", [row] * 10 + [longer])
    config = RunConfig(
        name="colours",
        revision="0a1b2c3d",
        model=ModelConfig(source=Source(uri="pvc://models/tiny", path=model)),
        dataset=DatasetConfig(train=Source(uri="pvc://data/train.jsonl", path=tmp_path / "train.jsonl")),
    )
    return config, learned


def tokenized(config: RunConfig, workspace: Workspace) -> Any:
    """The rows as the library takes them into training."""
    model = workspace.base_model(config)
    splits = rows.load(workspace)
    assert not splits.assistant_only
    settings = SFTConfig(output_dir=str(workspace.root / "out"), max_length=64, use_cpu=True, report_to="none")
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=settings,
        train_dataset=splits.train,
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    return trainer.train_dataset


def test_tokens_and_loss_are_as_prepare_says(case: tuple[RunConfig, str], tmp_path: Path) -> None:
    config, learned = case
    workspace = Workspace(tmp_path / "workspace")
    workspace.root.mkdir()

    found: PrepareResult = prepare(config, workspace, Reporter("prepare"))
    taken = tokenized(config, workspace)

    lengths = [len(tokens) for tokens in taken["input_ids"]]
    assert (found.dataset.tokens, found.dataset.longest) == (sum(lengths), max(lengths))
    labels = [label for label in taken[0]["labels"] if label != IGNORED]
    assert AutoTokenizer.from_pretrained(workspace.base_model(config)).decode(labels).strip() == learned
