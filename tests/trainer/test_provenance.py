"""provenance.json as its readers find it: in-toto's and SLSA's own classes take it, and what it names is true."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from finetune_trainer.contract.config import IMAGE, RunConfig
from finetune_trainer.contract.results import TrainResult
from finetune_trainer.contract.schemes import CREDENTIAL_KEYS
from finetune_trainer.data.digests import digest
from finetune_trainer.stages.train import train
from finetune_trainer.training.build import Beside
from google.protobuf.json_format import Parse
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from trainings import CHATS, COMMIT, Case, MakeCase, Recorder

PINNED = "registry.example/trainer:1@sha256:" + "ab" * 32


@pytest.fixture
def case(make_case: MakeCase, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setenv(IMAGE, PINNED)
    for name in CREDENTIAL_KEYS:
        monkeypatch.setenv(f"FINETUNE_MODEL_{name}", "canary-of-a-credential")
    case = make_case(rows=CHATS[:4], validation=CHATS[:1], total_steps=2)
    train(case.config, case.workspace, Recorder(), Beside(keep=2))
    return case


def read(artifact: Path) -> dict[str, Any]:
    """What is written, once in-toto's own classes have taken it, and what SLSA's have taken of it."""
    text = (artifact / "provenance.json").read_text()
    statement = Statement.copy_from_pb(Parse(text, statement_pb2.Statement()))
    statement.validate()
    found: dict[str, Any] = json.loads(text)
    assert statement.pb.predicate_type == "https://slsa.dev/provenance/v1"
    Parse(json.dumps(found["predicate"]), provenance_pb2.Provenance())
    return found


def dependencies(statement: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in statement["predicate"]["buildDefinition"]["resolvedDependencies"]}


def test_no_credential_is_in_anything_that_training_leaves(case: Case) -> None:
    left = [path for path in case.workspace.root.rglob("*") if path.is_file()]
    assert {"provenance.json", "bom.json", "README.md", "run_config.json"} <= {path.name for path in left}
    assert [path for path in left if b"canary" in path.read_bytes()] == []


def test_its_subjects_are_the_artifact_and_each_of_its_files(case: Case) -> None:
    artifact = case.workspace.artifact
    whole, *each = read(artifact)["subject"]
    assert whole == {"name": "colours", "digest": {"dirHash": digest(artifact).removeprefix("sha256:")}}
    found = {file["name"]: file["digest"]["sha256"] for file in each}
    assert {"adapter_model.safetensors", "README.md", "run_config.json"} <= found.keys()
    for name, said in found.items():
        assert hashlib.sha256((artifact / name).read_bytes()).hexdigest() == said, name


def test_it_names_what_was_asked_and_what_it_was_made_of(case: Case) -> None:
    statement = read(case.workspace.artifact)
    build = statement["predicate"]["buildDefinition"]
    asked = RunConfig.model_validate(build["externalParameters"]["runConfig"])
    assert (asked.revision, asked.training.seed) == ("0a1b2c3d", 42)
    assert build["internalParameters"]["plan"]["learningRate"] == 5e-3
    assert build["internalParameters"]["hardware"]["processes"] == 1
    found = dependencies(statement)
    assert found["base model"] == {
        "name": "base model",
        "uri": "hf://example/tiny",
        "digest": {"gitCommit": COMMIT},
    }
    assert found["train"]["uri"] == "s3://colours/train.jsonl"
    assert found["rows"]["annotations"]["digest"] == "sha256:0"
    assert found["rows"]["annotations"]["rows"] == {"train": 4, "validation": 1, "test": 0}
    assert found["torch"]["uri"] == f"pkg:pypi/torch@{version('torch')}"
    assert found["image"] == {"name": "image", "uri": PINNED, "digest": {"sha256": "ab" * 32}}


def test_it_tells_what_training_came_to_as_artifact_json_does(case: Case) -> None:
    details = read(case.workspace.artifact)["predicate"]["runDetails"]
    (result,) = details["byproducts"]
    told = TrainResult.model_validate(result["annotations"])
    assert told == TrainResult.model_validate_json(case.workspace.trained.read_text())
    assert details["metadata"]["invocationId"] == "colours/0a1b2c3d"


def test_a_checkpoint_that_is_kept_has_its_own(case: Case) -> None:
    (kept,) = case.workspace.kept.iterdir()
    whole = read(kept)["subject"][0]
    assert whole["digest"]["dirHash"] == digest(kept).removeprefix("sha256:")


def test_a_tag_proves_no_digest_and_a_laptop_has_no_image(make_case: MakeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for number, image in enumerate(["trainer:1", ""]):
        monkeypatch.setenv(IMAGE, image)
        case = make_case(f"case-{number}", rows=CHATS[:4], total_steps=1)
        train(case.config, case.workspace, Recorder())
        found.append(dependencies(read(case.workspace.artifact)).get("image"))
    assert found == [{"name": "image", "uri": "trainer:1"}, None]
