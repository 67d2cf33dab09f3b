"""The operator as a process of its own, under the chart's rights, against a real API server.

There is no kubelet and no controller: the tests write what those would (`playing`).
"""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from control_plane import ControlPlane
from http_server import Handler, answering
from operator_process import OperatorProcess
from playing import NAME, Played

_numbers = itertools.count(1)


def at_rest(operator: OperatorProcess, played: Played) -> dict[str, str]:
    """The resourceVersions after the operator has looked once more, called by a change to a pod that it only reads."""
    before = operator.reconciles()
    pod = f"pod/{played.owner('train')[1]}-pod"
    played.kubectl("annotate", pod, "--overwrite", f"finetune.dev/touched={next(_numbers)}")
    operator.eventually(lambda: operator.reconciles() > before and operator.metric("finetune_queue_depth") == 0)
    return {what: version for what, version in played.versions().items() if not what.endswith("train-pod")}


def test_a_manifest_becomes_ready(operator: OperatorProcess, played: Played, namespace: str) -> None:
    played.create()
    played.serve()
    status = played.job()["status"]
    assert status["phase"] == "Serving"
    assert status["endpoint"] == {"url": f"http://{NAME}.{namespace}.svc/v1", "model": NAME}
    assert played.get("service", NAME)["spec"]["selector"]["finetune.dev/revision"] == played.revision
    reasons = played.kubectl("get", "events", "-o", "jsonpath={.items[*].reason}")
    assert {"Accepted", "Succeeded", "Serving"} <= set(reasons.split())


def test_nothing_is_written_at_rest_nor_after_a_restart(
    operator: OperatorProcess, launch: Callable[..., OperatorProcess], played: Played
) -> None:
    played.create()
    played.serve()
    before = at_rest(operator, played)
    events = played.kubectl("get", "events", "-o", "name")
    assert at_rest(operator, played) == before
    assert operator.stop() == 0
    again = launch()
    again.eventually(lambda: again.metric('finetune_jobs{phase="Serving"}') >= 1)
    assert at_rest(again, played) == before
    assert played.kubectl("get", "events", "-o", "name") == events


def test_neither_finalizer_nor_annotation_is_put_on_the_users_object(operator: OperatorProcess, played: Played) -> None:
    played.create()
    played.serve()
    metadata = played.job()["metadata"]
    assert "finalizers" not in metadata
    assert set(metadata["annotations"]) == {"kubectl.kubernetes.io/last-applied-configuration"}


def test_it_is_small_and_stops_when_told(operator: OperatorProcess, played: Played) -> None:
    played.create()
    played.serve()
    at_rest(operator, played)
    assert operator.memory() <= 150
    assert operator.stop() == 0


class Status(Handler):
    """A stage pod's /status."""

    def do_GET(self) -> None:
        progress = {"stage": "train", "step": 12, "totalSteps": 40, "loss": 1.25, "tokensPerSecond": 181.6}
        curve = {"curve": [[6, 2.5, None], [12, 1.25, 1.5]]}
        self.answer_json(progress | curve, 200 if self.path == "/status" else 404)


@pytest.fixture
def training_pod() -> Iterator[str]:
    """The address of a pod that tells its progress."""
    address = f"127.0.77.{next(_numbers)}"
    with answering(Status, address, 8080):
        yield address


def test_progress_reaches_the_status(operator: OperatorProcess, played: Played, training_pod: str) -> None:
    played.create()
    played.complete("prepare")
    played.start("train", training_pod)
    played.wait(f"ftj/{NAME}", "jsonpath={.status.progressSummary}=12/40")
    progress = played.job()["status"]["progress"]
    assert (progress["loss"], progress["tokensPerSecond"]) == ("1.2500", "182")
    first, last = played.job()["status"]["curve"]
    assert (first, last) == (
        {"step": 6, "loss": "2.5000"},
        {"step": 12, "loss": "1.2500", "validationLoss": "1.5000"},
    )


def test_a_pod_that_does_not_answer_is_no_failure(operator: OperatorProcess, played: Played) -> None:
    played.create()
    played.start("prepare", "127.0.78.1")
    played.wait_reason("DataReady", "Running")
    played.serve()


@pytest.mark.parametrize("stage", ["prepare", "train", "host"])
def test_killed_at_any_stage_it_ends_in_the_same_place(
    operator: OperatorProcess, launch: Callable[..., OperatorProcess], played: Played, stage: str
) -> None:
    played.create()
    path: dict[str, Callable[[], None]] = {
        "prepare": lambda: played.complete("prepare"),
        "train": lambda: played.complete("train"),
        "host": played.roll_out,
    }
    for each, complete in path.items():
        played.wait("/".join(played.owner(each)), "create")
        if each == stage:
            operator.kill()
        complete()
        if each == stage:
            launch()
    played.wait(f"ftj/{NAME}", "condition=Ready")


def test_it_outlives_an_api_server_that_is_killed(
    operator: OperatorProcess, control_plane: ControlPlane, played: Played
) -> None:
    played.create()
    played.start("prepare")
    played.wait_reason("DataReady", "Running")
    control_plane.restart()
    played.serve()
    assert operator.process
    assert operator.process.poll() is None


def test_a_setting_that_cannot_be_ends_it_with_a_sentence(control_plane: ControlPlane, tmp_path: Path) -> None:
    operator = OperatorProcess(control_plane.kubeconfig(), tmp_path / "operator.log", log_format="xml")
    assert operator.run() == 1
    assert operator.log() == "FINETUNE_LOG_FORMAT must be text or json, not 'xml'\n"


def test_suspend_and_resume(operator: OperatorProcess, played: Played) -> None:
    played.create()
    played.start("prepare")
    played.wait_reason("DataReady", "Running")
    played.create(suspend=True)
    played.wait_reason("DataReady", "Suspended")
    played.collect("/".join(played.owner("prepare")))
    played.create(suspend=False)
    played.serve()


def test_a_cluster_without_kueue_is_told_nothing_of_it(operator: OperatorProcess, played: Played) -> None:
    played.create(training={"queue": "team-a", "resources": {"limits": {"cpu": 1}}})
    played.complete("prepare")
    played.wait_reason("Trained", "Queued")
    assert "look whether Kueue is installed" in played.condition("Trained")["message"]
    assert "kueue" not in operator.log().lower().replace(played.condition("Trained")["message"].lower(), "")


def test_an_edit_trains_a_new_revision_and_the_old_ones_objects_go(operator: OperatorProcess, played: Played) -> None:
    played.create()
    played.serve()
    old = played.revision
    played.create(training={"maxSteps": 40, "seed": 7})
    played.wait_reason("DataReady", "Starting")
    assert played.revision != old
    assert played.job()["status"]["servedRevision"] == old
    assert played.get("service", NAME)["spec"]["selector"]["finetune.dev/revision"] == old
    played.serve()
    played.wait(f"ftj/{NAME}", f"jsonpath={{.status.servedRevision}}={played.revision}")
    played.wait(f"deployment/{NAME}-{old}", "jsonpath={.metadata.deletionTimestamp}")
    assert played.get("service", NAME)["spec"]["selector"]["finetune.dev/revision"] == played.revision


def test_what_the_api_server_refuses_is_said_once(operator: OperatorProcess, played: Played) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    played.kubectl("apply", "-f-", document=quota | {"spec": {"hard": {"count/jobs.batch": "0"}}})
    played.wait("resourcequota/none", "create")
    played.kubectl(
        "patch",
        "resourcequota",
        "none",
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps({"status": {"hard": {"count/jobs.batch": "0"}, "used": {"count/jobs.batch": "0"}}}),
    )
    played.create()
    played.wait_reason("DataReady", "Refused")
    ready = played.condition("Ready")
    assert f"The API server refused Job {played.owner('prepare')[1]}" in ready["message"]
    assert "exceeded quota: none" in ready["message"]
    before = played.job()["metadata"]["resourceVersion"]
    reconciles = operator.reconciles()
    played.kubectl("label", "configmap", played.owner("host")[1], "finetune.dev/touched=yes")
    operator.eventually(lambda: operator.reconciles() > reconciles)
    assert played.job()["metadata"]["resourceVersion"] == before
    played.kubectl("delete", "resourcequota", "none")


def test_why_a_job_has_no_pod_is_told(operator: OperatorProcess, played: Played, namespace: str) -> None:
    played.create()
    played.wait_reason("DataReady", "Starting")
    kind, name = played.owner("prepare")
    involved = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "namespace": namespace}
    involved["uid"] = played.get(kind, name)["metadata"]["uid"]
    message = 'Error creating: pods "x" is forbidden: exceeded quota: pods'
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "refusal"}, "involvedObject": involved}
    said = {"type": "Warning", "reason": "FailedCreate", "message": message}
    played.kubectl("create", "-f-", document=event | said)
    played.wait_reason("DataReady", "PodNotCreated")
    assert message in played.condition("Ready")["message"]
