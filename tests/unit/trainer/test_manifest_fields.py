"""What a report tells of the manifest that it was made by."""

from pathlib import Path

from decisions import CONFIG
from finetune_trainer.contract.config import (
    BaselineConfig,
    BaselineType,
    EndpointConfig,
    EvaluationConfig,
    Format,
    GateConfig,
    ModelConfig,
    Origin,
    Source,
)
from finetune_trainer.contract.results import DatasetInfo, ModelInfo, Plan, PrepareResult, Rows
from finetune_trainer.evaluation.manifest import fields

PREPARED = PrepareResult(
    model=ModelInfo(parameters=1, context_length=2048),
    dataset=DatasetInfo(
        format=Format.CHAT, rows=Rows(train=900), tokens=1, longest=1, longer_than_max_length=0, digest="sha256:1"
    ),
    plan=Plan(
        batch_size=16,
        tokens_per_pass=512,
        max_length=512,
        learning_rate=2e-4,
        total_steps=9,
        context_length=2048,
        estimated_memory_bytes=1,
        estimated_trained_tokens=1,
        reasons={"learningRate": "Why."},
    ),
)
EVALUATION = EvaluationConfig(
    baselines=(BaselineConfig(type=BaselineType.FEW_SHOT, examples=4),), gate=GateConfig(margin=0.02)
)


def test_each_field_has_its_path_and_what_was_chosen_stands_under_plan() -> None:
    found = fields(CONFIG, EVALUATION, PREPARED)
    assert found["training.adapter.rank"] == "16"
    assert found["dataset.train"] == "s3://b/train.jsonl"
    assert found["dataset.found.rows.train"] == "900"
    assert found["dataset.found.digest"] == "sha256:1"
    assert found["plan.learningRate"] == "0.0002"
    assert found["evaluation.gate.margin"] == "0.02"
    assert found["evaluation.baselines"] == "few-shot 4"


def test_of_a_path_on_the_users_machine_its_end_is_kept() -> None:
    found = fields(CONFIG, EVALUATION, PREPARED)
    assert found["model.source"] == "SmolLM2"
    assert not [value for value in found.values() if "anna" in value]


def test_what_a_model_goes_back_to_is_told_and_not_where_that_lay() -> None:
    lineage = ("ftj://sft/0a1b2c3d", "hf://org/model@abc")
    base = Source(uri="file:///home/anna/tiny", path=Path("/home/anna/tiny"))
    origin = Origin(digest="sha256:1", files=Path("/home/anna/.finetune/sft/0a1b2c3d"), base=base, lineage=lineage)
    model = ModelConfig(source=Source(uri=lineage[0]), origin=origin)
    found = fields(CONFIG.model_copy(update={"model": model}), EVALUATION, PREPARED)
    assert found["model.source"] == "ftj://sft/0a1b2c3d"
    assert found["model.origin.lineage"] == "ftj://sft/0a1b2c3d, hf://org/model@abc"
    assert not [value for value in found.values() if "anna" in value]


def test_of_an_endpoint_its_model_is_told_and_no_address() -> None:
    endpoint = EndpointConfig(url="https://api.inner.example.com/v1", model="large")
    baseline = BaselineConfig(type=BaselineType.ENDPOINT, name="theirs", endpoint=endpoint)
    found = fields(CONFIG, EVALUATION.model_copy(update={"baselines": (baseline,)}), PREPARED)
    assert found["evaluation.baselines"] == "endpoint 0 theirs large"
    assert "example.com" not in str(found)
