"""The artifact as its readers find it: complete, traceable, the same for the same training."""

import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from finetune_trainer.contract.config import AdapterConfig, AdapterType, DatasetConfig, Source, SplitConfig
from finetune_trainer.contract.results import ModelInfo, TrainResult
from finetune_trainer.data.digests import digest
from finetune_trainer.stages.train import train
from finetune_trainer.training import follow
from finetune_trainer.training.card import card
from huggingface_hub import ModelCard
from trainings import CHATS, COMMIT, Case, MakeCase, Recorder
from vllm.lora.peft_helper import PEFTHelper

BASE = ModelInfo(commit=COMMIT, parameters=1, context_length=1)
FORMULA = (
    "find * -type f ! -path artifact.json ! -path provenance.json ! -path bom.json ! -path model.sig "
    "| LC_ALL=C sort | xargs sha256sum | sha256sum"
)


@pytest.fixture
def case(make_case: MakeCase) -> Case:
    case = make_case(rows=CHATS[:4], validation=CHATS[:1], total_steps=2)
    train(case.config, case.workspace, Recorder())
    return case


def test_the_digest_is_what_coreutils_say(case: Case) -> None:
    said = subprocess.run(FORMULA, shell=True, cwd=case.workspace.artifact, capture_output=True, text=True, check=True)

    recorded = TrainResult.model_validate_json(case.workspace.trained.read_text()).artifact.digest
    assert recorded == digest(case.workspace.artifact) == f"sha256:{said.stdout.split()[0]}"


def test_the_digest_changes_with_any_byte_and_any_name(case: Case) -> None:
    recorded = digest(case.workspace.artifact)
    weights = case.workspace.artifact / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    changed = digest(case.workspace.artifact)
    weights.rename(weights.with_name("renamed.safetensors"))

    assert len({recorded, changed, digest(case.workspace.artifact)}) == 3


def test_the_same_training_gives_the_same_digest(case: Case, make_case: MakeCase) -> None:
    again = make_case("again", rows=CHATS[:4], validation=CHATS[:1], total_steps=2)

    result = train(again.config, again.workspace, Recorder())

    assert result.artifact.digest == digest(case.workspace.artifact)


def test_the_adapter_names_its_base_model_and_commit_as_the_hub_does(case: Case) -> None:
    config = json.loads((case.workspace.artifact / "adapter_config.json").read_text())

    assert (config["base_model_name_or_path"], config["revision"]) == ("example/tiny", COMMIT)


def test_the_adapters_config_is_the_same_in_every_process(case: Case) -> None:
    targets = json.loads((case.workspace.artifact / "adapter_config.json").read_text())["target_modules"]

    assert len(targets) == 14
    assert targets == sorted(targets)


def test_vllm_accepts_the_adapter(case: Case) -> None:
    helper = PEFTHelper.from_local_dir(str(case.workspace.artifact), max_position_embeddings=None)

    assert helper.r == 8
    assert helper._validate_features() == []


def test_the_model_card_is_one_that_the_hub_reads(case: Case) -> None:
    card = ModelCard.load(case.workspace.artifact / "README.md")

    assert card.data.base_model == "example/tiny"
    assert card.data.library_name == "peft"
    assert "lora" in card.data.tags
    assert "--lora-modules colours=." in card.text


def test_the_card_names_the_hubs_datasets_by_their_ids(case: Case) -> None:
    train = Source(uri="hf://datasets/org/foods@main/train.jsonl")
    test = SplitConfig(source=Source(uri="hf://datasets/org/drinks/test.jsonl"))
    told = case.config.model_copy(update={"dataset": DatasetConfig(train=train, test=test)})

    assert ModelCard(card(told, BASE)).data.datasets == ["org/drinks", "org/foods"]
    assert ModelCard.load(case.workspace.artifact / "README.md").data.datasets is None


def test_the_card_says_the_base_models_license_and_none_of_its_own(case: Case) -> None:
    told = ModelCard(card(case.config, BASE.model_copy(update={"license": "apache-2.0"})))

    assert "The license of its base model is apache-2.0." in told.text
    assert told.data.get("license") is None
    assert "license" not in card(case.config, BASE)


def test_no_path_of_this_machine_is_in_it(case: Case, base_model: Path) -> None:
    here = str(base_model.parents[1]).encode()

    found = [path.name for path in case.workspace.artifact.rglob("*") if here in path.read_bytes()]

    assert found == []


def test_any_user_may_read_it(case: Case) -> None:
    modes = {stat.S_IMODE(path.stat().st_mode) for path in case.workspace.artifact.iterdir()}

    assert all(mode & stat.S_IROTH for mode in modes)


@pytest.mark.parametrize(("kind", "place"), [(AdapterType.NONE, "."), (AdapterType.DORA, "merged")])
def test_a_whole_model_generates_by_its_bases_defaults_though_the_library_finds_that_they_contradict(
    make_case: MakeCase, base_model: Path, tmp_path: Path, kind: AdapterType, place: str
) -> None:
    base = tmp_path / "base"
    shutil.copytree(base_model, base)
    contradicting = '{"do_sample": false, "temperature": 0.6, "eos_token_id": [2, 5]}'
    (base / "generation_config.json").write_text(contradicting)
    case = make_case(rows=CHATS[:4], adapter=AdapterConfig(type=kind, rank=8), base=base, total_steps=2)

    with pytest.MonkeyPatch.context() as patch:
        # A checkpoint after each step: it has to be written too.
        patch.setattr(follow, "SAVE_SECONDS", 0)
        patch.setattr(follow, "SAVE_SHARE", float("inf"))
        train(case.config, case.workspace, Recorder())

    assert (case.workspace.artifact / place / "generation_config.json").read_text() == contradicting


def test_checkpoints_and_mapped_rows_give_back_their_room(case: Case) -> None:
    assert sorted(path.name for path in case.workspace.root.iterdir()) == ["artifact", "data", "prepared.json"]


def test_metrics_have_a_row_for_each_step_with_its_validation(case: Case) -> None:
    rows = [json.loads(line) for line in (case.workspace.artifact / "metrics.jsonl").read_text().splitlines()]

    assert [row["step"] for row in rows] == [1, 2]
    assert [row["epoch"] for row in rows] == [1.0, 2.0]
    assert rows[-1].keys() == {
        *("step", "epoch", "loss", "validationLoss", "learningRate", "gradNorm", "tokenAccuracy", "tokens")
    }
