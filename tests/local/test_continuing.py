"""One job after another on a laptop: preferences are learned by what a task was learned by before."""

import json
from collections.abc import Callable
from pathlib import Path

import yaml
from finetune_trainer.contract.results import PrepareResult
from laptop import NAME, ROWS, Finetune
from test_preferences import preference


def test_dpo_goes_on_from_sft(finetune: Finetune, write: Callable[..., None], directory: Path) -> None:
    lines = ROWS.read_text().splitlines()[:16]
    (directory / "train.jsonl").write_text("\n".join(lines) + "\n")
    (directory / "pairs.jsonl").write_text("".join(json.dumps(preference(line)) + "\n" for line in lines))
    training = {"maxSteps": 2, "batchSize": 2, "maxLength": 128}
    write(training=training, hosting={"enabled": False})
    source = yaml.safe_load((directory / "job.yaml").read_text())
    (directory / "sft.yaml").write_text(yaml.safe_dump(source | {"metadata": {"name": "sft"}}))
    write(
        model={"source": "ftj://sft"},
        dataset={"train": {"source": "file://pairs.jsonl"}},
        training=training | {"method": "dpo"},
        hosting={"enabled": False},
    )
    assert (first := finetune("run", "sft.yaml")).ends() == 0, first.said
    assert (second := finetune("run", "job.yaml")).ends() == 0, second.said
    (artifact,) = (directory / ".finetune/sft").glob("*/artifact")
    (workspace,) = (path.parent for path in (directory / ".finetune" / NAME).glob("*/artifact"))
    found = PrepareResult.model_validate_json((workspace / "prepared.json").read_bytes()).model
    assert found.lineage == (f"ftj://sft/{artifact.parent.name}", "tiny-smollm2")
    assert found.digest == json.loads((artifact / "artifact.json").read_text())["artifact"]["digest"]
    assert (workspace / "model/model.safetensors").exists()
    assert (workspace / "artifact/adapter_model.safetensors").exists()
