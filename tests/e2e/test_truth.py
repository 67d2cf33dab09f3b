"""Was it worth it? Tuned, the real small model beats itself on held-out recipes, and every baseline on guests' words.

The messages are kept out of the repository; FINETUNE_TEST_DATA names the directory with train.jsonl and test.jsonl.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kube import ENVIRONMENT, KUBECTL, ROOT, get, items, kubectl, wait
from recipes import NAME, SMOLLM2, answers, client, held_out, manifest, put, put_model
from stages import FTJ, apply_job

BOOKINGS = "bookings"
DATA = Path(os.environ.get("FINETUNE_TEST_DATA", ROOT.parent / "shared" / "data" / "restaurant8k"))
TRAIN_ROWS, TEST_ROWS = 640, 40
# Training takes six minutes on two idle cores.
SECONDS = 2400
TRAINING = {"model": SMOLLM2, "batchSize": 8, "maxLength": 256}


@pytest.fixture(scope="module")
def real_model(namespace: str) -> str:
    put_model(SMOLLM2)
    return namespace


def test_the_tuned_model_beats_the_base_model_on_held_out_rows(real_model: str) -> None:
    apply_job(real_model, manifest(maxSteps=45, **TRAINING))
    wait(real_model, FTJ, "condition=Ready", SECONDS)
    client(real_model, "ask", "ask", f"http://{NAME}.{real_model}.svc/v1", NAME, f"{NAME}-base", rows=held_out())
    right = {NAME: 0, f"{NAME}-base": 0}
    for answer in answers(real_model, "ask", SECONDS):
        right[answer["model"]] += answer["said"] == answer["expected"]
    kubectl("delete", "ftj", NAME, "-n", real_model, "--timeout=60s")
    assert right[NAME] >= len(held_out()) / 2, right
    assert right[f"{NAME}-base"] <= 2, right


def rows(split: str, count: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"{split}.jsonl").read_text().splitlines()[:count]]


def lines(found: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in found).encode()


@pytest.fixture(scope="module")
def promoted(real_model: str) -> Iterator[str]:
    """The job whose tuned model met the gate, and serves."""
    if not DATA.is_dir():
        pytest.skip(f"restaurant8k is not there: {DATA} (FINETUNE_TEST_DATA)")
    put(
        {
            "bookings-train.jsonl": lines(rows("train", TRAIN_ROWS)),
            "bookings-test.jsonl": lines(rows("test", TEST_ROWS)),
        }
    )
    job = manifest(BOOKINGS, train="s3://recipes/bookings-train.jsonl", maxSteps=80, learningRate=5e-4, **TRAINING)
    job["spec"]["dataset"]["test"] = {"source": "s3://recipes/bookings-test.jsonl"}
    job["spec"]["evaluation"] = {"gate": {"margin": 0}}
    job["spec"]["hosting"] = {"contextLength": 1024}
    apply_job(real_model, job)
    wait(real_model, f"ftj/{BOOKINGS}", "condition=Ready", SECONDS)
    yield real_model
    kubectl("delete", "ftj", BOOKINGS, "-n", real_model, "--timeout=60s")


def test_the_tuned_model_beats_every_baseline(promoted: str) -> None:
    found = get("ftj", BOOKINGS, promoted)["status"]["evaluation"]
    assert found["metric"] == "json_fields_f1"
    assert found["reason"] == "All answers are JSON."
    assert set(found["baselines"]) == {"zero-shot", "few-shot", "retrieval", "structured"}
    for name, contender in found["contenders"].items():
        if name != "tuned":
            assert float(contender["comparisons"]["json_fields_f1"]["bounds"]["0.95"]) > 0, (name, found)
    assert float(found["promptTokensPerRequest"]["retrieval"]) > 2 * float(found["promptTokensPerRequest"]["tuned"])


def test_kubectl_shows_whether_it_was_worth_it(promoted: str) -> None:
    found = get("ftj", BOOKINGS, promoted)["status"]["evaluation"]
    row = kubectl("get", "ftj", BOOKINGS, "-n", promoted).splitlines()[1]
    assert found["metricSummary"] in row
    assert found["bestBaselineSummary"] in row


def test_the_report_is_fetched_from_the_cluster(promoted: str, tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("finetune"), "report", BOOKINGS, "-n", promoted]
    path = f"{KUBECTL.parent}:{os.environ['PATH']}"
    said = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT | {"PATH": path}, capture_output=True, text=True, timeout=300
    )
    assert said.returncode == 0, said.stderr
    assert "Ship it" in said.stdout
    (page,) = tmp_path.glob("*.html")
    assert "Should you ship it?" in page.read_text()
    assert not [pod for pod in items("pod", promoted, "") if "-report-" in pod["metadata"]["name"]]
