"""Was it worth it? Real guests' messages: the tuned model beats every baseline, and a task with nothing to learn loses.

The data is kept out of the repository; FINETUNE_TEST_DATA names the directory with train.jsonl and test.jsonl.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kube import ENVIRONMENT, KUBECTL, ROOT, get, items, kubectl, wait
from recipes import answers, client, manifest, put

NAME = "bookings"
FTJ = f"ftj/{NAME}"
DATA = Path(os.environ.get("FINETUNE_TEST_DATA", ROOT.parent / "shared" / "data" / "restaurant8k"))
TRAIN_ROWS, TEST_ROWS = 640, 40
# Training takes six minutes on two idle cores.
SECONDS = 2400

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"restaurant8k is not there: {DATA} (FINETUNE_TEST_DATA)")


def rows(split: str, count: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"{split}.jsonl").read_text().splitlines()[:count]]


def shuffled(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same messages with each other's answers: there is nothing to learn."""
    replies = [row["messages"][-1] for row in found]
    random.Random(1).shuffle(replies)
    return [{"messages": [*row["messages"][:-1], reply]} for row, reply in zip(found, replies, strict=True)]


def lines(found: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in found).encode()


def job(train: str, test: str, **training: Any) -> dict[str, Any]:
    found = manifest(NAME, train=f"s3://recipes/{train}", learningRate=5e-4, **training)
    found["spec"]["dataset"]["test"] = {"source": f"s3://recipes/{test}"}
    found["spec"]["evaluation"] = {"gate": {"margin": 0}}
    found["spec"]["hosting"] = {"contextLength": 1024}
    return found


def apply(namespace: str, found: dict[str, Any]) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(found))


def condition(namespace: str, kind: str) -> dict[str, Any]:
    return next(each for each in get("ftj", NAME, namespace)["status"]["conditions"] if each["type"] == kind)


@pytest.fixture(scope="module")
def promoted(kitchen: str, bucket: dict[str, str]) -> Iterator[str]:
    """The job whose tuned model met the gate, and serves."""
    train, test = rows("train", TRAIN_ROWS), rows("test", TEST_ROWS)
    null = {"null-train.jsonl": lines(shuffled(train)), "null-test.jsonl": lines(shuffled(test))}
    put(bucket, {"bookings-train.jsonl": lines(train), "bookings-test.jsonl": lines(test)} | null)
    apply(kitchen, job("bookings-train.jsonl", "bookings-test.jsonl", maxSteps=80))
    wait(kitchen, FTJ, "condition=Ready", SECONDS)
    yield kitchen
    kubectl("delete", "ftj", NAME, "-n", kitchen, "--timeout=60s")


def test_the_tuned_model_beats_every_baseline(promoted: str) -> None:
    found = get("ftj", NAME, promoted)["status"]["evaluation"]
    assert found["metric"] == "json_fields_f1"
    assert found["reason"] == "All answers are JSON."
    assert set(found["baselines"]) == {"zero-shot", "few-shot", "retrieval"}
    for name, contender in found["contenders"].items():
        if name != "tuned":
            assert float(contender["comparisons"]["json_fields_f1"]["bounds"]["0.95"]) > 0, (name, found)
    assert float(found["promptTokensPerRequest"]["retrieval"]) > 2 * float(found["promptTokensPerRequest"]["tuned"])


def test_kubectl_shows_whether_it_was_worth_it(promoted: str) -> None:
    found = get("ftj", NAME, promoted)["status"]["evaluation"]
    row = kubectl("get", "ftj", NAME, "-n", promoted).splitlines()[1]
    assert found["metricSummary"] in row
    assert found["bestBaselineSummary"] in row


def test_the_report_is_fetched_from_the_cluster(promoted: str, tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("finetune"), "report", NAME, "-n", promoted]
    path = f"{KUBECTL.parent}:{os.environ['PATH']}"
    said = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT | {"PATH": path}, capture_output=True, text=True, timeout=300
    )
    assert said.returncode == 0, said.stderr
    assert "Ship it" in said.stdout
    (page,) = tmp_path.glob("*.html")
    assert "Should you ship it?" in page.read_text()
    assert not [pod for pod in items("pod", promoted, "") if "-report-" in pod["metadata"]["name"]]


def test_a_task_with_nothing_to_learn_is_refused_while_the_old_revision_answers(promoted: str) -> None:
    old = get("ftj", NAME, promoted)["status"]["revision"]
    client(promoted, "null-load", "load", f"http://{NAME}.{promoted}.svc/v1", NAME)
    wait(promoted, "job/null-load", "jsonpath={.status.ready}=1", 120)
    apply(promoted, job("null-train.jsonl", "null-test.jsonl", maxSteps=6))
    wait(promoted, FTJ, "jsonpath={.status.phase}=Rejected", SECONDS)
    new = get("ftj", NAME, promoted)["status"]["revision"]
    assert new != old

    assert condition(promoted, "Evaluated")["reason"] == "GateNotMet"
    ready = condition(promoted, "Ready")
    assert ready["status"] == "False"
    assert f"Revision {old} goes on serving" in ready["message"]
    wait(promoted, f"deployment/{NAME}-{new}", "delete", 300)
    assert get("service", NAME, promoted)["spec"]["selector"]["finetune.dev/revision"] == old

    pods = items("pod", promoted, "job-name=null-load")
    kubectl("exec", "-n", promoted, pods[0]["metadata"]["name"], "--", "touch", "/tmp/stop")
    said = answers(promoted, "null-load", 120)
    assert len(said) > 20
    assert [answer for answer in said if not answer["ok"]] == []
