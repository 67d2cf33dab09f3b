"""The example text-to-sql, from its manifest to many clients: SQL that the small real model has learnt to write."""

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml
from finetune_trainer.evaluation.decision import Decision
from laptop import NAME, ROOT, SMOLLM2, Finetune

EXAMPLE = ROOT / "examples" / "text-to-sql"


def test_it_finds_in_tables_that_it_never_saw_what_was_asked_for(finetune: Finetune, directory: Path) -> None:
    job = yaml.safe_load((EXAMPLE / "finetunejob.yaml").read_text())
    job["metadata"]["name"] = NAME
    spec = job["spec"]
    spec["model"]["source"] = f"file://{SMOLLM2}"
    for split in ("train", "test"):
        spec["dataset"][split]["source"] = f"file://{EXAMPLE / split}.jsonl"
    # Minutes less than the example takes.
    spec["training"]["maxSteps"] = 25
    spec["evaluation"] |= {
        "sampleSize": 24,
        "baselines": [{"type": "zero-shot"}],
        "gate": {"minimum": 0.5, "margin": 0.1},
    }
    (directory / "job.yaml").write_text(yaml.safe_dump(job))
    run = finetune("run", "job.yaml")
    endpoint = run.until(lambda status: status.get("phase") == "Serving")["endpoint"]
    (report,) = (directory / ".finetune" / NAME).glob("*/evaluations/*/report.json")
    result = Decision.model_validate_json(report.read_bytes()).result
    assert [metric.value for metric in result.metrics] == ["sql_execution", "exact_match"]
    # What is written otherwise and finds the same is right, too.
    rows = [json.loads(line) for line in report.with_name("rows.jsonl").read_text().splitlines()]
    found = {metric: [row["scores"][metric]["tuned"] for row in rows] for metric in ("sql_execution", "exact_match")}
    assert all(right >= same for right, same in zip(found["sql_execution"], found["exact_match"], strict=True))
    assert sum(found["sql_execution"]) >= 12
    # Many ask at once: all are answered, and no worse than one after the other.
    command = [sys.executable, str(EXAMPLE / "load.py"), endpoint["url"], NAME, "--clients", "6", "--questions", "12"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout.startswith("6 clients, 12 questions: 12 answered, 0 failed.\n")
    exact = re.search(r"^(\d+) are the right query", told.stdout, re.MULTILINE)
    assert exact
    assert int(exact[1]) >= 3
    assert run.interrupt() == 0
