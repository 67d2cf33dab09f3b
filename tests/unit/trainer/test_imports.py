"""What the whole program imports to prepare: nothing that takes ten seconds. A few rows are prepared in a moment."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from finetune_trainer.data import base
from finetune_trainer.data.digests import digest
from finetune_trainer.training import merging
from hub import Hub, Repository, listening
from safetensors.numpy import load_file, save_file
from tiny import write_model

# Not pandas: pyarrow imports it where it is there, a quarter of a second, to make an array of any list.
HEAVY = ("torch", "peft", "sklearn", "datasets", "scipy", "openai", "transformers.models.auto")
PROGRAM = f"""
import atexit, sys
from finetune_trainer.__main__ import main
atexit.register(lambda: print([name for name in {HEAVY} if name in sys.modules]))
main()
"""
URI = "ftj://recipes/0a1b2c3d"
ANSWER = {"role": "assistant", "content": "two eggs"}
CHATS = [[{"role": "user", "content": f"list eggs {number}"}, ANSWER] for number in range(10)]
ROWS = "".join(json.dumps({"messages": [*chat, *chat]}) + "\n" for chat in CHATS)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.fixture
def endpoint(model: Path) -> Iterator[str]:
    """A hub that has the model."""
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    with listening(Hub({"acme/tiny": Repository({"0" * 40: files}, {"main": "0" * 40})})) as found:
        yield found.endpoint


def adapter(path: Path) -> Path:
    """What a training of the model left: an adapter of one matrix, 8 by 8."""
    path.mkdir(parents=True)
    numbers = numpy.random.default_rng(7)
    factors = {
        "lora_A": numbers.normal(size=(2, 8)).astype(numpy.float32),
        "lora_B": numbers.normal(size=(8, 2)).astype(numpy.float32),
    }
    named = {f"base_model.model.lm_head.{name}.weight": factor for name, factor in factors.items()}
    save_file(named, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 4}))
    (path / "run_config.json").write_text(json.dumps({"training": {"method": "sft"}}))
    return path


def source(kind: str, model: Path, root: Path) -> dict[str, Any]:
    """The run config's model, which lies on a volume, on a hub, or is what another FineTuneJob made."""
    if kind == "hf":
        return {"source": {"uri": "hf://acme/tiny"}}
    if kind == "pvc":
        return {"source": {"uri": "pvc://models/tiny", "path": str(model)}}
    trained = digest(adapter(root / "trained/artifact"))
    told = {"uri": "pvc://models/tiny", "path": str(model)}
    origin = {"digest": trained, "files": str(root / "trained"), "base": told, "lineage": [URI, told["uri"]]}
    return {"source": {"uri": URI}, "origin": origin}


@pytest.mark.parametrize("kind", ["pvc", "hf", "ftj"])
def test_preparing_imports_no_torch(tmp_path: Path, model: Path, endpoint: str, kind: str) -> None:
    (tmp_path / "train.jsonl").write_text(ROWS)
    train = {"uri": "pvc://data/train.jsonl", "path": str(tmp_path / "train.jsonl")}
    config = {"name": "dinner", "revision": "4d5e6f70", "model": source(kind, model, tmp_path)}
    (tmp_path / "run.json").write_text(json.dumps(config | {"dataset": {"train": train, "test": {"fraction": 0.2}}}))
    (tmp_path / "evaluation.json").write_text("{}")
    (tmp_path / "workspace").mkdir()
    places = {name: str(tmp_path / name) for name in ("workspace", "termination-log")}
    places |= {"config": str(tmp_path / "run.json"), "evaluation": str(tmp_path / "evaluation.json")}
    options = [part for name, path in places.items() for part in (f"--{name}", path)]
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, "prepare", "--status-port", "0", *options],
        env=os.environ | {"FINETUNE_MODEL_HF_ENDPOINT": endpoint},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "[]"
    assert (tmp_path / "workspace/prepared.json").exists()


@pytest.mark.parametrize("at_once", [1, 24, merging.AT_ONCE])
@pytest.mark.parametrize("stored", ["float32", "float16"])
def test_an_adapter_is_summed_with_the_weights_however_many_rows_at_once(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, stored: str
) -> None:
    monkeypatch.setattr(merging, "AT_ONCE", at_once)
    file = model / "model-00002-of-00002.safetensors"
    before = numpy.random.default_rng(1).normal(size=(8, 8)).astype(stored)
    save_file({"lm_head.weight": before}, file)
    factors = load_file(adapter(tmp_path / "artifact") / "adapter_model.safetensors")
    down, up = (factors[f"base_model.model.lm_head.lora_{letter}.weight"] for letter in "AB")
    merging.merge(tmp_path / "artifact", model)
    found = load_file(file)["lm_head.weight"]
    assert found.dtype == before.dtype
    numpy.testing.assert_allclose(found, (before + 2 * up @ down).astype(stored), rtol=1e-3, atol=1e-6)
    assert base.parameters(model, "pvc://models/tiny") == 128 * 16 + 8 * 8


def test_an_adapter_of_another_shape_is_refused(tmp_path: Path, model: Path) -> None:
    save_file({"lm_head.weight": numpy.zeros((8, 6), numpy.float32)}, model / "model-00002-of-00002.safetensors")
    said = r"changes lm_head.weight as a matrix of \(8, 8\), and its base model has one of \(8, 6\)"
    with pytest.raises(ValueError, match=said):
        merging.merge(adapter(tmp_path / "artifact"), model)
