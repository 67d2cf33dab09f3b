"""bom.json as its readers find it: valid by CycloneDX's own schema, and true."""

import json
from importlib.metadata import version

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from finetune_trainer.contract.config import DatasetConfig, Source, SplitConfig
from finetune_trainer.contract.results import TrainResult
from finetune_trainer.stages.train import train
from trainings import CHATS, COMMIT, MakeCase, Recorder


def test_it_is_valid_and_names_model_base_model_rows_and_libraries(make_case: MakeCase) -> None:
    case = make_case(rows=CHATS[:4], validation=CHATS[:1], total_steps=2)
    source = SplitConfig(source=Source(uri="hf://datasets/org/drinks/test.jsonl"))
    rows = DatasetConfig(train=case.config.dataset.train, test=source)
    train(case.config.model_copy(update={"dataset": rows}), case.workspace, Recorder())
    text = (case.workspace.artifact / "bom.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None

    found, result = json.loads(text), TrainResult.model_validate_json(case.workspace.trained.read_bytes())
    model = found["metadata"]["component"]
    assert (model["name"], model["version"]) == ("colours", "0a1b2c3d")
    assert {"name": "finetune.dev:digest", "value": result.artifact.digest} in model["properties"]
    card = model["modelCard"]
    assert card["modelParameters"]["datasets"] == [{"ref": "rows-train"}, {"ref": "rows-test"}]
    measured = {each["type"]: float(each["value"]) for each in card["quantitativeAnalysis"]["performanceMetrics"]}
    assert measured["validationLoss"] == pytest.approx(result.validation_loss, rel=1e-4)
    parts = {each["bom-ref"]: each for each in found["components"]}
    assert parts["base-model"]["purl"] == f"pkg:huggingface/example/tiny@{COMMIT}"
    assert parts["rows-test"]["name"] == "hf://datasets/org/drinks/test.jsonl"
    assert f"pkg:pypi/torch@{version('torch')}" in parts
    assert set(found["dependencies"][0]["dependsOn"]) == parts.keys()
