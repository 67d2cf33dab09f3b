"""The README's five minutes: examples/minimal.yaml, as the operator hands it to prepare.

Its model's chat template marks no answer, and its rows are conversations with several. Both are on a hub of our own, by
their names there: the rows in its form, the model a small one with a template of the same shape.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from finetune_operator.finetunejob.desired.evaluation import evaluation_config
from finetune_operator.finetunejob.desired.run_config import run_config
from finetune_trainer.contract.config import Workspace
from finetune_trainer.data.tokens import IGNORED
from finetune_trainer.server import Reporter
from finetune_trainer.stages.prepare import prepare
from hub import Hub, Repository, listening
from pyarrow import ipc, parquet
from rendering import SETTINGS, example
from shapes import SHAPES, tokenizer
from tiny import write_model

JOB = example("minimal.yaml")
COMMIT = "0" * 40
ROWS, ANSWERS = 40, ("Hello! How can I help you?", "Two eggs will do.", "You are welcome, number {}.")


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    template = SHAPES["SmolLM2"].translate({ord("«"): "", ord("»"): ""})
    model = write_model(tmp_path / "model")
    tokenizer(template).save_pretrained(model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"vocab_size": 700, "max_position_embeddings": 2048}))
    talks = [
        {
            "full_topic": "Cooking/Eggs",
            "messages": [
                message
                for turn, answer in enumerate(ANSWERS)
                for message in (
                    {"content": f"Question {turn} of talk {row}?", "role": "user"},
                    {"content": answer.format(row), "role": "assistant"},
                )
            ],
        }
        for row in range(ROWS)
    ]
    parquet.write_table(pa.Table.from_pylist(talks), tmp_path / "rows.parquet")
    address = urlsplit(JOB.spec.dataset.train.source)
    owner, name, path = address.path.strip("/").split("/", 2)
    repositories = {
        JOB.spec.model.source.removeprefix("hf://"): {each.name: each.read_bytes() for each in model.iterdir()},
        f"{address.netloc}/{owner}/{name}": {path: (tmp_path / "rows.parquet").read_bytes()},
    }
    found = Hub({name: Repository({COMMIT: files}, {"main": COMMIT}) for name, files in repositories.items()})
    with listening(found):
        for whose in ("MODEL", "DATASET"):
            monkeypatch.setenv(f"FINETUNE_{whose}_HF_ENDPOINT", found.endpoint)
        yield found


def test_every_answer_of_every_talk_is_learned_and_a_tenth_is_measured(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.root.mkdir()
    config, evaluation = run_config(JOB.name, JOB.revision, JOB.spec), evaluation_config(JOB.spec, SETTINGS)
    found = prepare(config, workspace, Reporter("prepare"), evaluation)
    assert found.dataset.format == "chat"
    assert found.dataset.rows.model_dump() == {"train": 32, "validation": 4, "test": 4}
    assert found.model.commit == COMMIT
    unused = "Format chat has no use for these columns of train-00000-of-00001.parquet: full_topic."
    assert found.warnings == (unused,)
    written = tokenizer(None)
    found = set()
    for row in ipc.open_stream(workspace.learned("train")).read_all().to_pylist():
        found.add(written.decode([label for label in row["labels"] if label != IGNORED]))
    learned = {"".join(f"{answer.format(row)}<|im_end|>\n" for answer in ANSWERS) for row in range(ROWS)}
    assert len(found) == 32
    assert found <= learned
