"""A task of lm-evaluation-harness, and its rows."""

import json
from pathlib import Path

import yaml

TASK = {
    "task": "foods",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "foods.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{asked}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "right",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
# The right one is the shorter, which is likelier where each token has its price, and the second, which no tie goes to.
ROWS = [{"asked": f"{number} eggs", "choices": ["egg flour rice", "egg"], "right": 1} for number in range(4)]


def write(directory: Path, **fields: object) -> None:
    """The task as files, with these fields of its own."""
    directory.mkdir()
    (directory / "foods.yaml").write_text(yaml.safe_dump(TASK | fields))
    (directory / "foods.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
