"""What a stage answers while it runs: the operator reads /status, Prometheus reads /metrics."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime

import psutil
import pytest
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.results import Progress
from finetune_trainer.server import Reporter, serving
from prometheus_client.parser import text_string_to_metric_families


@pytest.fixture
def reporter() -> Reporter:
    return Reporter("train")


@pytest.fixture
def address(reporter: Reporter) -> Iterator[str]:
    with serving(reporter, 0) as port:
        yield f"http://127.0.0.1:{port}"


def get(url: str) -> tuple[str, str]:
    with urllib.request.urlopen(url, timeout=120) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def test_status_is_the_progress_of_this_moment(reporter: Reporter, address: str) -> None:
    eta = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    reporter.update(activity="training", step=3, total_steps=12, loss=1.25)
    reporter.update(step=4, eta=eta)
    kind, body = get(f"{address}/status")
    assert kind == "application/json"
    assert json.loads(body)["totalSteps"] == 12
    assert Progress.model_validate_json(body) == Progress(
        stage="train", activity="training", step=4, total_steps=12, loss=1.25, eta=eta
    )


def test_metrics_are_prometheus_text_without_what_is_not_known_yet(reporter: Reporter, address: str) -> None:
    reporter.update(step=4, total_steps=12, loss=0.5)
    kind, body = get(f"{address}/metrics?name[]=up")
    assert kind.startswith("text/plain")
    found = {family.name: family.samples[0] for family in text_string_to_metric_families(body)}
    assert found["finetune_trainer_loss"].value == 0.5
    assert found["finetune_trainer_step"].labels == {"stage": "train"}
    assert "finetune_trainer_validation_loss" not in found


@pytest.mark.parametrize("path", ["/", "/stop", "/status/x"])
def test_there_is_nothing_else_to_ask_for(address: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        get(f"{address}{path}")
    assert refusal.value.code == 404


def test_nothing_can_be_sent(address: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(f"{address}/status", data=b"step=1", timeout=120)
    assert refusal.value.code == 501


def test_a_port_that_is_taken_is_said() -> None:
    with (
        serving(Reporter("train"), 0) as port,
        pytest.raises(StageError) as refusal,
        serving(Reporter("prepare"), port),
    ):
        pytest.fail("two servers on one port")
    assert refusal.value.outcome == Outcome.CONFIG_INVALID
    assert refusal.value.message == f"Port {port} is taken by another process: choose another --status-port."


def test_a_local_run_is_heard_by_this_machine_alone(reporter: Reporter) -> None:
    def listening(port: int) -> list[str]:
        connections = psutil.Process().net_connections("inet")
        return [found.laddr.ip for found in connections if found.status == "LISTEN" and found.laddr.port == port]

    with serving(reporter, 0, "127.0.0.1") as port:
        assert listening(port) == ["127.0.0.1"]
    with serving(reporter, 0) as port:
        assert listening(port) in (["::"], ["0.0.0.0"])


def test_the_server_is_gone_after_the_stage(reporter: Reporter) -> None:
    with serving(reporter, 0) as port:
        get(f"http://127.0.0.1:{port}/status")
    with pytest.raises(urllib.error.URLError):
        get(f"http://127.0.0.1:{port}/status")
