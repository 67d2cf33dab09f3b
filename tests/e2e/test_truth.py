"""Was it worth it? Tuned, the real small model beats every baseline on what guests said, and it is what answers.

The messages are kept out of the repository; FINETUNE_TEST_DATA names the directory with train.jsonl and test.jsonl.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kube import ROOT, finetune, get, items, kubectl, wait
from recipes import SMOLLM2, answers, client, keys, manifest, port_forward, put, put_model
from stages import apply_job

BOOKINGS = "bookings"
DATA = Path(os.environ.get("FINETUNE_TEST_DATA", ROOT.parent / "shared" / "data" / "restaurant8k"))
MISSING = (
    "{path} is not there. Make it of PolyAI's restaurant8k (github.com/PolyAI-LDN/task-specific-datasets, "
    "span_extraction): a row a message, `messages` with a system message, the guest's, and the spans as a JSON object. "
    "Then set FINETUNE_TEST_DATA to its directory."
)
TRAIN_ROWS, TEST_ROWS = 640, 40
# Of the rows of test, those that a client asks itself.
GUESTS = 12
# Training takes six minutes on two idle cores, and forty where others share them.
SECONDS = 5400
TRAINING = {"model": SMOLLM2, "batchSize": 8, "maxLength": 256}


@pytest.fixture(scope="module")
def real_model(namespace: str) -> str:
    put_model(SMOLLM2)
    return namespace


def rows(split: str, count: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"{split}.jsonl").read_text().splitlines()[:count]]


def lines(found: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in found).encode()


@pytest.fixture(scope="module")
def promoted(real_model: str) -> Iterator[str]:
    """The job whose tuned model met the gate, and serves."""
    for name in ("train.jsonl", "test.jsonl"):
        assert (DATA / name).is_file(), MISSING.format(path=DATA / name)
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
    job["spec"]["output"] = {"destination": "s3://models/bookings", "credentials": job["spec"]["model"]["credentials"]}
    apply_job(real_model, job)
    wait(real_model, f"ftj/{BOOKINGS}", "condition=Ready", SECONDS)
    yield real_model
    kubectl("delete", "ftj", BOOKINGS, "-n", real_model, "--timeout=600s")


def test_the_tuned_model_beats_every_baseline(promoted: str) -> None:
    found = get("ftj", BOOKINGS, promoted)["status"]["evaluation"]
    assert found["metric"] == "json_fields_f1"
    assert found["reason"] == "All answers are JSON."
    assert set(found["baselines"]) == {"zero-shot", "few-shot", "retrieval", "structured"}
    for name, contender in found["contenders"].items():
        if name != "tuned":
            assert float(contender["comparisons"]["json_fields_f1"]["bounds"]["0.95"]) > 0, (name, found)
    assert float(found["promptTokensPerRequest"]["retrieval"]) > 2 * float(found["promptTokensPerRequest"]["tuned"])


def test_the_endpoint_answers_guests_better_than_the_base_model_does(promoted: str) -> None:
    base, guests = f"{BOOKINGS}-base", rows("test", GUESTS)
    client(promoted, "ask", "ask", f"http://{BOOKINGS}.{promoted}.svc/v1", BOOKINGS, base, rows=guests)
    right = {BOOKINGS: 0, base: 0}
    for answer in answers(promoted, "ask", SECONDS):
        right[answer["model"]] += answer["said"] == answer["expected"]
    assert right[BOOKINGS] >= GUESTS / 2, right
    assert right[base] <= GUESTS / 4, right


def test_kubectl_shows_whether_it_was_worth_it(promoted: str) -> None:
    found = get("ftj", BOOKINGS, promoted)["status"]["evaluation"]
    row = kubectl("get", "ftj", BOOKINGS, "-n", promoted).splitlines()[1]
    assert found["metricSummary"] in row
    assert found["bestBaselineSummary"] in row


def test_the_artifact_is_fetched_from_where_it_was_published(promoted: str, tmp_path: Path) -> None:
    found = get("ftj", BOOKINGS, promoted)["status"]["artifact"]
    with port_forward("s3", "service/s3", 7070) as port:
        credentials = keys() | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        said = finetune(tmp_path, "fetch", BOOKINGS, "-n", promoted, "--to", "adapter", **credentials)
    assert found["uri"].startswith("s3://models/bookings/")
    assert found["digest"] in said
    assert (tmp_path / "adapter/adapter_model.safetensors").exists()


def test_the_report_is_fetched_from_the_cluster(promoted: str, tmp_path: Path) -> None:
    assert "Ship it" in finetune(tmp_path, "report", BOOKINGS, "-n", promoted)
    (page,) = tmp_path.glob("*.html")
    assert "Should you ship it?" in page.read_text()
    assert not [pod for pod in items("pod", promoted, "") if "-report-" in pod["metadata"]["name"]]
