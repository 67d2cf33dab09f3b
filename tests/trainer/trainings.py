"""A real model small enough to train in seconds, rows to train it on, and the program as its users start it."""

import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_trainer.contract.config import (
    AdapterConfig,
    DatasetConfig,
    DpoConfig,
    Format,
    Method,
    ModelConfig,
    RunConfig,
    Source,
    TrainingConfig,
    Workspace,
)
from finetune_trainer.contract.results import DatasetInfo, ModelInfo, Plan, PrepareResult, Rows
from finetune_trainer.data import bucket, examples, spool, tokens, trained
from finetune_trainer.data.base import Base, ModelFigures
from finetune_trainer.data.examples import Example
from finetune_trainer.data.line import Line
from finetune_trainer.server import Reporter
from finetune_trainer.training import machine
from fsspec.implementations.local import LocalFileSystem
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = ["you", "list", "the", "colour", "of", "a", "thing", "what", "is", "?"]
PAIRS = (("sky", "blue"), ("grass", "green"), ("snow", "white"), ("coal", "black"))
CHATML = (
    "{% for message in messages %}<|im_start|> {{ message['role'] }} {{ message['content'] }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)
STEPS = 12
LORA = AdapterConfig(rank=8)
FIGURES = ModelFigures(100_000, 64, 64, 2, 24, intermediate_size=128, query_size=64, key_value_size=32)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two threads on so small a model wait for each other more than they work."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with a tokenizer of words, as a directory in the hub's layout."""
    path = tmp_path_factory.mktemp("base")
    special = ["<unk>", "<|im_start|>", "<|im_end|>", "system", "user", "assistant"]
    vocabulary = {word: index for index, word in enumerate([*special, *WORDS, *itertools.chain(*PAIRS)])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", eos_token="<|im_end|>", pad_token="<unk>", chat_template=CHATML
    )
    tokenizer.save_pretrained(path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        # Far from uniform, or every loss would be the same.
        initializer_range=0.3,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(path)
    return path


def chat(thing: str, colour: str) -> dict[str, Any]:
    """One row of the task."""
    return {
        "messages": [
            {"role": "system", "content": "you list the colour of a thing"},
            {"role": "user", "content": f"what colour is the {thing} ?"},
            {"role": "assistant", "content": colour},
        ]
    }


CHATS = [chat(*pair) for pair in PAIRS * 6]


def answers(model: Any, tokenizer: Any) -> list[str]:
    """What a model says about each thing."""
    said = []
    for thing, colour in PAIRS:
        prompt = chat(thing, colour)["messages"][:-1]
        tokens = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt")["input_ids"]
        found = model.generate(tokens, max_new_tokens=1, do_sample=False)
        said.append(tokenizer.decode(found[0, tokens.shape[1] :]))
    return said


class Case:
    """A workspace as prepare leaves it, and the run config that goes with it."""

    def __init__(self, root: Path, config: RunConfig) -> None:
        self.root = root
        self.config = config
        self.workspace = Workspace(root / "workspace")
        self.config_file = root / "run.json"


MakeCase = Callable[..., Case]


@pytest.fixture
def precision() -> str:
    """What a case trains in, whichever is fast on this machine: another one learns another model."""
    return machine.FP32


@pytest.fixture
def make_case(base_model: Path, precision: str, tmp_path: Path) -> MakeCase:
    """Make a case: rows, adapter and what differs in the plan."""

    def make(
        name: str = "colours",
        rows: list[dict[str, Any]] = CHATS,
        validation: list[dict[str, Any]] | None = None,
        adapter: AdapterConfig = LORA,
        base: Path = base_model,
        method: Method = Method.SFT,
        dpo: DpoConfig | None = None,
        **plan: Any,
    ) -> Case:
        case = Case(
            tmp_path / name,
            RunConfig(
                name="colours",
                revision="0a1b2c3d",
                model=ModelConfig(source=Source(uri="hf://example/tiny", path=base)),
                dataset=DatasetConfig(train=Source(uri="s3://colours/train.jsonl")),
                training=TrainingConfig(adapter=adapter, method=method, dpo=dpo),
            ),
        )
        workspace = case.workspace
        workspace.data.mkdir(parents=True)
        workspace.checkpoints.mkdir()
        workspace.precision.write_text(precision)
        store(workspace, "train", rows, base)
        if validation:
            store(workspace, "validation", validation, base)
        case.config_file.write_text(case.config.model_dump_json(by_alias=True))
        workspace.prepared.write_text(prepared(len(rows), len(validation or []), **plan).model_dump_json(by_alias=True))
        return case

    return make


class Folder(LocalFileSystem):  # type: ignore[misc]
    """A bucket of this machine, with the one condition of S3 that is needed."""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        if mode == "create" and Path(path).exists():
            raise FileExistsError(path)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(value)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What s3:// addresses are of."""
    monkeypatch.setattr(bucket, "filesystem", lambda *asked: Folder(auto_mkdir=True))
    return tmp_path / "bucket"


def store(workspace: Workspace, split: str, rows: list[dict[str, Any]], base: Path) -> None:
    """Rows as prepare leaves them."""
    found = Base(FIGURES, AutoTokenizer.from_pretrained(base))
    source = DatasetConfig(train=Source(uri=f"s3://colours/{split}.jsonl"))
    likely = [Format.UNPAIRED_PREFERENCE] if "label" in rows[0] else []
    shape = examples.shape_of(source, examples.recognise(source, rows[0], likely), found.chat)
    # Strings stay strings, as of a model without a chat template.
    plain = replace(shape, chat=isinstance(next(iter(rows[0].values())), list))
    made = []
    for number, row in enumerate(rows, 1):
        problems, checked = examples.check(Line(f"{split}.jsonl:{number}", row), plain, found, learn=True)
        assert checked is not None, problems
        both = [each for each in (checked.rendered, checked.rejected) if each]
        found_tokens = tokens.encode(both, found)
        rejected = found_tokens[1] if len(both) > 1 else None
        made.append(Example(b"", checked.place, found_tokens[0], rejected, checked.desirable))
    trained.write(workspace.learned(split), [spool.pack(made)], longest=FIGURES.context_length)


def prepared(train: int, validation: int, **plan: Any) -> PrepareResult:
    """What prepare would have found and planned."""
    chosen = {
        "batch_size": 4,
        "tokens_per_pass": 4 * 64,
        "max_length": 64,
        "learning_rate": 5e-3,
        "total_steps": STEPS,
        "context_length": 64,
        "estimated_memory_bytes": 1,
        "estimated_trained_tokens": 1,
    }
    return PrepareResult(
        model=ModelInfo(commit=COMMIT, parameters=100_000, context_length=64),
        dataset=DatasetInfo(
            format=Format.CHAT,
            rows=Rows(train=train, validation=validation),
            tokens=1,
            longest=1,
            longer_than_max_length=0,
            digest="sha256:0",
        ),
        plan=Plan(**(chosen | plan)),
    )


class Recorder(Reporter):
    """A reporter that keeps everything it was told."""

    def __init__(self) -> None:
        super().__init__("train")
        self.updates: list[dict[str, Any]] = []

    def update(self, **fields: Any) -> None:
        super().update(**fields)
        self.updates.append(fields)

    def values(self, field: str) -> list[Any]:
        return [update[field] for update in self.updates if field in update]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
