"""Evaluation and the gate, by the operator as a process, against a real API server under the chart's rights."""

import json

import pytest
from operator_process import OperatorProcess
from playing import NAME, Played
from rehearsal import TEST
from test_shell_operator import at_rest

GATE = {"gate": {"minimum": 0.5, "margin": 0.01}}


@pytest.fixture
def measured(operator: OperatorProcess, played: Played) -> Played:
    """A revision that met its gate, and serves."""
    played.create(dataset=TEST, evaluation=GATE)
    train(played)
    played.measure()
    played.wait(f"ftj/{NAME}", "condition=Ready")
    return played


def train(played: Played) -> None:
    played.complete("prepare")
    played.complete("train")
    played.roll_out()


def patch(played: Played, **spec: object) -> None:
    played.kubectl("patch", "ftj", NAME, "--type=merge", "-p", json.dumps({"spec": spec}))


def test_the_winner_is_promoted_and_kubectl_shows_the_score(measured: Played) -> None:
    assert measured.get("service", NAME)["spec"]["selector"]["finetune.dev/revision"] == measured.revision
    heading, row = measured.kubectl("get", "ftj", NAME).splitlines()
    assert heading.split()[:6] == ["NAME", "READY", "PHASE", "PROGRESS", "METRIC", "BEST-BASELINE"]
    assert "exact_match 0.670" in row
    assert "retrieval 0.610" in row


def test_nothing_is_written_at_rest(operator: OperatorProcess, measured: Played) -> None:
    assert at_rest(operator, measured) == at_rest(operator, measured)


def test_the_loser_gives_its_accelerator_back_and_the_old_revision_serves(measured: Played) -> None:
    old = measured.revision
    patch(measured, training={"seed": 7})
    train(measured)
    loser = "/".join(measured.owner("host"))
    measured.measure(tuned=0.62)
    measured.wait_reason("Evaluated", "GateNotMet")
    measured.wait(loser, "jsonpath={.metadata.deletionTimestamp}")
    measured.wait_reason("Hosted", "Released")
    assert measured.get("service", NAME)["spec"]["selector"]["finetune.dev/revision"] == old
    ready = measured.condition("Ready")
    assert ready["status"] == "False"
    assert ready["message"].endswith(
        f"Revision {old} goes on serving at {measured.job()['status']['endpoint']['url']}."
    )
    assert measured.get("deployment", f"{NAME}-{old}")["spec"]["replicas"] == 1


def test_another_gate_is_decided_without_another_job(measured: Played) -> None:
    job = measured.get("job", f"{NAME}-{measured.revision}-evaluate")["metadata"]["uid"]
    patch(measured, evaluation={"gate": {"minimum": 0.9}})
    measured.wait_reason("Evaluated", "GateNotMet")
    patch(measured, evaluation={"gate": {"minimum": 0.6}})
    measured.wait_reason("Evaluated", "Succeeded")
    assert measured.get("job", f"{NAME}-{measured.revision}-evaluate")["metadata"]["uid"] == job


def test_an_earlier_revision_is_brought_back_by_hand(measured: Played) -> None:
    old = measured.revision
    patch(measured, training={"seed": 7})
    train(measured)
    measured.measure(tuned=0.7)
    measured.wait(f"ftj/{NAME}", f"jsonpath={{.status.servedRevision}}={measured.revision}")
    measured.collect(f"deployment/{NAME}-{old}")
    measured.kubectl("annotate", "ftj", NAME, f"finetune.dev/promote={old}")
    measured.roll_out(old)
    measured.wait(f"ftj/{NAME}", f"jsonpath={{.status.servedRevision}}={old}")
    measured.wait_reason("Promoted", "Pinned")
    measured.wait(f"deployment/{NAME}-{measured.revision}", "jsonpath={.metadata.deletionTimestamp}")


def test_a_reward_model_is_served_to_rate_answers_and_promoted_by_how_it_ranks(
    operator: OperatorProcess, played: Played
) -> None:
    training = {"maxSteps": 40, "method": "reward"}
    played.create(dataset=TEST, training=training, evaluation={"gate": {"minimum": 0.8}})
    train(played)
    played.wait("/".join(played.owner("evaluate")), "create")
    engine = played.get("deployment", f"{NAME}-{played.revision}")["spec"]["template"]["spec"]["containers"][0]
    assert engine["args"][:2] == ["--model", "/workspace/artifact/merged"]
    assert "pooling" in engine["args"]
    assert engine["startupProbe"]["exec"]["command"][-1] == "/classify"
    played.rank(0.9)
    played.wait(f"ftj/{NAME}", "condition=Ready")
    endpoint = played.job()["status"]["endpoint"]["url"]
    assert endpoint.endswith(".svc/classify")
    assert endpoint in played.kubectl("get", "ftj", NAME)
    assert "ranking_accuracy 0.900 (0.840 to 0.960) on 200 rows" in played.condition("Evaluated")["message"]
    patch(played, evaluation={"gate": {"minimum": 0.95}})
    played.wait_reason("Evaluated", "GateNotMet")


def test_a_full_model_is_compared_with_its_base_model_on_an_engine_of_its_own(
    operator: OperatorProcess, played: Played
) -> None:
    full = {"maxSteps": 40, "adapter": {"type": "none"}}
    played.create(dataset=TEST, training=full, evaluation={"gate": {"margin": 0.01}})
    train(played)
    base = "/".join(played.owner("base"))
    played.wait(base, "create")
    played.wait(base.replace("deployment/", "service/"), "create")
    assert played.kubectl.run("get", "/".join(played.owner("evaluate"))).returncode != 0
    name = f"{NAME}-{played.revision}-base"
    assert played.get("service", name)["spec"]["selector"]["finetune.dev/stage"] == "base"
    played.roll_out(stage="base")
    played.measure()
    played.wait_reason("Evaluated", "Succeeded")
    played.wait(base, "jsonpath={.metadata.deletionTimestamp}")
    played.wait(f"service/{name}", "jsonpath={.metadata.deletionTimestamp}")
    played.wait(f"ftj/{NAME}", "condition=Ready")
    assert "retrieval" in played.condition("Evaluated")["message"]
