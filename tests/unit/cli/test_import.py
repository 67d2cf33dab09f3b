"""`finetune import`: what other tools' configurations become, and that nothing of them is dropped in silence.

The configurations are of the shape of their projects' own public examples (docs/importing.md has the links), with
values written anew.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from finetune_cli.main import app
from finetune_operator.api.v1alpha1 import FineTuneJob
from typer.testing import CliRunner, Result

AUTOTRAIN = """
task: llm-sft
base_model: acme/llama-8b
project_name: Acme SFT
log: tensorboard
backend: local
data:
  path: acme/rows
  train_split: train
  valid_split: test
  chat_template: tokenizer
  column_mapping: {text_column: conversation}
params:
  block_size: 2048
  model_max_length: 8192
  epochs: 2
  batch_size: 1
  lr: 1e-5
  peft: true
  quantization: int4
  target_modules: all-linear
  padding: right
  optimizer: paged_adamw_8bit
  scheduler: cosine
  gradient_accumulation: 8
  mixed_precision: bf16
  merge_adapter: true
hub:
  username: ${HF_USERNAME}
  token: ${HF_TOKEN}
  push_to_hub: true
"""
TRL = """trl dpo --model_name_or_path acme/qwen-1b --dataset_name acme/pairs \\
  --dataset_test_split test --use_peft --lora_r 24 --lora_alpha 48 --load_in_4bit --learning_rate 5.0e-6 \\
  --num_train_epochs 1 --per_device_train_batch_size 2 --gradient_accumulation_steps 8 --beta 0.2 \\
  --loss_type sigmoid sft --output_dir out/qwen-dpo --gradient_checkpointing --report_to wandb \\
  --no_remove_unused_columns
"""
AXOLOTL = """
base_model: acme/mistral-7b
load_in_8bit: true
datasets:
  - {path: acme/alpaca, type: alpaca}
val_set_size: 0.05
output_dir: ./outputs/mistral-lora
adapter: lora
sequence_len: 4096
sample_packing: true
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 3
optimizer: adamw_bnb_8bit
lr_scheduler: cosine
learning_rate: 0.0002
bf16: auto
warmup_ratio: 0.1
special_tokens:
wandb_project: mistral
made_up: 3
"""
LLAMA_FACTORY = """
model_name_or_path: acme/qwen-7b
stage: dpo
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: q_proj,v_proj
pref_beta: 0.1
pref_loss: orpo
dataset: pairs_en
template: qwen
cutoff_len: 2048
output_dir: saves/qwen-7b/lora/dpo
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 5.0e-6
num_train_epochs: 3.0
lr_scheduler_type: cosine
bf16: true
val_size: 0.1
max_samples: 1000
"""
OPENAI = {
    "model": "gpt-4.1-mini",
    "training_file": "file-abc",
    "suffix": "recipe helper",
    "seed": 7,
    "method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3, "n_epochs": "auto", "batch_size": 16}}},
    "metadata": {"team": "kitchen"},
}
Run = Callable[..., tuple[Result, dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Import a text; how it ended, and the manifest."""

    def import_it(text: str, *more: str) -> tuple[Result, dict[str, Any]]:
        (tmp_path / "theirs").write_text(text)
        made = tmp_path / "job.yaml"
        found = CliRunner().invoke(app, ["import", str(tmp_path / "theirs"), "--save", str(made), *more])
        return found, yaml.safe_load(made.read_text()) if made.exists() else {}

    return import_it


def told(result: Result) -> str:
    """What became of the settings and what is wrong, in single spaces."""
    return " ".join(result.stderr.split())


def test_autotrain(run: Run) -> None:
    result, job = run(AUTOTRAIN)
    assert result.exit_code == 0, result.stderr
    assert job["metadata"]["name"] == "acme-sft"
    assert job["spec"] == {
        "model": {"source": "hf://acme/llama-8b"},
        "dataset": {
            "train": {"source": "hf://datasets/acme/rows/data/train-*.parquet"},
            "validation": {"source": "hf://datasets/acme/rows/data/test-*.parquet"},
            "columns": {"messages": "conversation"},
        },
        "training": {
            "method": "sft",
            "adapter": {"type": "qlora", "targetModules": ["all-linear"]},
            "batchSize": 8,
            "tracking": {"type": "tensorboard"},
            "learningRate": 1e-5,
            "epochs": 2,
            "maxLength": 2048,
        },
    }


def test_what_is_said_in_an_option_takes_the_place_of_the_files_own(run: Run) -> None:
    result, job = run(AUTOTRAIN, "--model", "hf://acme/other", "--train", "configmap://rows/train.jsonl")
    assert job["spec"]["model"] == {"source": "hf://acme/other"}
    assert job["spec"]["dataset"]["train"] == {"source": "configmap://rows/train.jsonl"}
    assert "model.source: hf://acme/other (--model says so)" in told(result)
    assert "base_model acme/llama-8b --model is given, and takes its place" in told(result)
    assert "data.path acme/rows --train is given, and takes its place" in told(result)
    assert "data/train-*.parquet" not in told(result)


def test_a_token_never_gets_into_a_manifest(run: Run) -> None:
    result, job = run(AUTOTRAIN.replace("${HF_TOKEN}", "hf_secret"))
    assert "hf_secret" not in json.dumps(job)
    assert "hf_secret" not in result.output + result.stderr


@pytest.mark.parametrize(
    ("task", "training"),
    [
        ("llm-orpo", {"method": "dpo", "dpo": {"lossType": ["sigmoid", "sft"]}}),
        ("llm-reward", {"method": "reward"}),
        ("llm", {"method": "sft"}),
    ],
)
def test_autotrains_tasks_are_methods(run: Run, task: str, training: dict[str, Any]) -> None:
    text = AUTOTRAIN.replace("llm-sft", task).replace("quantization: int4", "quantization: null")
    result, job = run(text)
    assert result.exit_code == 0, result.stderr
    assert training.items() <= job["spec"]["training"].items()


def test_trls_command_line(run: Run) -> None:
    result, job = run(TRL)
    assert result.exit_code == 0, result.stderr
    assert job["metadata"]["name"] == "qwen-dpo"
    training = job["spec"]["training"]
    assert training["method"] == "dpo"
    assert training["dpo"] == {"beta": 0.2, "lossType": ["sigmoid", "sft"]}
    assert training["adapter"] == {"type": "qlora", "rank": 32, "alpha": 48}
    assert training["batchSize"] == 16
    assert job["spec"]["dataset"]["test"]["source"] == "hf://datasets/acme/pairs/data/test-*.parquet"
    assert "report_to wandb mlflow, tensorboard, trackio and wandb are there" in told(result)
    assert "no_remove_unused_columns true is not known to this importer" in told(result)


def test_trls_yaml_without_an_adapter_trains_all_weights(run: Run) -> None:
    result, job = run("model_name_or_path: ./models/small\ndataset_name: rows/train.jsonl\nmax_steps: 20\n")
    assert result.exit_code == 0, result.stderr
    assert job["spec"]["model"]["source"] == "file://./models/small"
    assert job["spec"]["dataset"]["train"]["source"] == "file://rows/train.jsonl"
    assert job["spec"]["training"] == {"method": "sft", "adapter": {"type": "none"}, "maxSteps": 20}


def test_axolotl(run: Run) -> None:
    result, job = run(AXOLOTL)
    assert result.exit_code == 0, result.stderr
    assert job["metadata"]["name"] == "mistral-lora"
    assert job["spec"]["dataset"] == {
        "train": {"source": "hf://datasets/acme/alpaca/data/train-*.parquet"},
        "format": "instruction",
        "validation": {"fraction": 0.05},
    }
    training = job["spec"]["training"]
    assert training["adapter"] == {"type": "lora", "rank": 32, "alpha": 16, "dropout": 0.05}
    assert (training["batchSize"], training["epochs"], training["learningRate"]) == (8, 3, 2e-4)
    assert "load_in_8bit true 8-bit base models are not there" in told(result)
    assert "made_up 3 is not known to this importer" in told(result)


def test_llama_factory(run: Run) -> None:
    result, job = run(LLAMA_FACTORY)
    assert result.exit_code == 0, result.stderr
    assert job["spec"]["dataset"]["train"]["source"] == "file://data/pairs_en.json"
    training = job["spec"]["training"]
    assert training["dpo"] == {"beta": 0.1, "lossType": ["sigmoid", "sft"]}
    assert training["adapter"] == {"type": "lora", "rank": 8, "targetModules": ["q_proj", "v_proj"]}
    assert "max_samples 1000 all rows are taken: cut the file" in told(result)


def test_an_openai_job_needs_a_model_and_a_file_that_can_be_had(run: Run) -> None:
    result, job = run(json.dumps(OPENAI))
    assert result.exit_code == 2
    assert "Still to be mended: spec.model" in told(result)
    assert "OpenAI's models can't be had: choose an open one with --model" in told(result)
    result, job = run(json.dumps(OPENAI), "--model", "hf://acme/qwen-1b", "--train", "s3://recipes/train.jsonl")
    assert result.exit_code == 0, result.stderr
    assert job["metadata"]["name"] == "recipe-helper"
    assert job["spec"]["training"] == {"method": "dpo", "dpo": {"beta": 0.3}, "batchSize": 16, "seed": 7}


@pytest.mark.parametrize("text", [AUTOTRAIN, TRL, AXOLOTL, LLAMA_FACTORY, json.dumps(OPENAI)])
def test_every_setting_is_told_of_once(run: Run, text: str) -> None:
    result, _ = run(text)
    lines = [line.split()[0] for line in result.stderr.splitlines() if line.startswith("  ") and line[2] != " "]
    assert len(lines) == len(set(lines))
    assert {line.rpartition(".")[2] for line in lines} >= settings(text)


def settings(text: str) -> set[str]:
    """The names of all that have a value."""
    if text == TRL:
        return {word.removeprefix("--") for word in text.split() if word.startswith("--")}
    found: set[str] = set()
    pending = [yaml.safe_load(text)]
    while pending:
        for key, value in pending.pop().items():
            if isinstance(value, dict) and key != "metadata":
                pending.append(value)
            elif value not in (None, "auto") and key != "type":
                found.add(key)
    return found


def test_it_is_printed_where_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "axolotl.yml").write_text(AXOLOTL)
    result = CliRunner().invoke(app, ["import", str(tmp_path / "axolotl.yml"), "--name", "mine"])
    job = FineTuneJob.model_validate(yaml.safe_load(result.stdout))
    assert job.metadata.name == "mine"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "is not YAML"),
        ("- 1", "holds no settings: it has to be one YAML or JSON object"),
        ("a: 1", "is of none of the tools that are known; --from names one of autotrain, trl, axolotl"),
    ],
)
def test_what_is_no_configuration_is_told(run: Run, text: str, sentence: str) -> None:
    result, job = run(text)
    assert result.exit_code != 0
    assert job == {}
    assert sentence in str(result.exception) + result.stderr


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        (f"{AXOLOTL}lora_modules_to_save: [embed_tokens, lm_head]\n", "lora_modules_to_save"),
        (f"{LLAMA_FACTORY}additional_target: embed_tokens,lm_head\n", "additional_target"),
        (TRL.replace("--load_in_4bit", "--lora_modules_to_save embed_tokens lm_head"), "lora_modules_to_save"),
    ],
    ids=["axolotl", "llama-factory", "trl"],
)
def test_modules_that_are_trained_as_a_whole_are_taken(run: Run, text: str, setting: str) -> None:
    result, job = run(text)
    assert result.exit_code == 0, result.stderr
    assert job["spec"]["training"]["adapter"]["modulesToSave"] == ["embed_tokens", "lm_head"]
    assert f"{setting} " in told(result)


def test_beside_four_bits_they_are_left_out_with_the_reason(run: Run) -> None:
    result, job = run(TRL.replace("--load_in_4bit", "--load_in_4bit --lora_modules_to_save lm_head"))
    assert "modulesToSave" not in job["spec"]["training"]["adapter"]
    assert "the base model is in four bits, which nothing is merged with: choose adapter.type lora" in told(result)
