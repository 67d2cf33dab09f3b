"""`finetune report`: what it prints, and the pod that reads a report out of a cluster."""

import json
import os
import stat
from pathlib import Path

import pytest
from decisions import decision
from finetune_cli.cluster import Cluster, complaint, reader
from finetune_cli.errors import UserError
from finetune_cli.report import given_prices, report_on, summary
from finetune_operator.finetunejob.stages import JOBS
from finetune_operator.finetunejob.stages.evaluate import evaluated
from finetune_trainer.contract.config import Prices
from rendering import target
from restricted import violations
from rich.console import Console


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that says what a cluster with one measured FineTuneJob would, and keeps what it was asked."""
    found, decided = target("recipes"), decision()
    step = evaluated(decided.result, found.spec, f"pvc://recipes-{found.revision}/evaluations/00000001/report.html")
    job = {
        "spec": found.spec.model_dump(mode="json", by_alias=True, exclude_unset=True),
        "status": {"evaluation": step.report["evaluation"].model_dump(mode="json", by_alias=True, exclude_none=True)},
    }
    files = {
        "ftj.json": job,
        "job.json": JOBS["evaluate"].job(found, "inputs", suspended=False),
        "pod.json": {"metadata": {"name": "reader-1"}},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "report.json").write_text(decided.model_dump_json(by_alias=True))
    program = tmp_path / "kubectl"
    program.write_text(f"""#!/bin/sh
cd {tmp_path}
echo "$@" >> asked
case "$*" in
  *finetunejobs*missing*) echo 'finetunejobs "missing" not found' >&2; exit 1;;
  *"get finetunejobs"*) cat ftj.json;;
  *"get job"*) cat job.json;;
  *create*) cat > made.json; cat pod.json;;
  *logs*) cat report.json;;
esac
""")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def told(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        report_on(name, Cluster("kitchen"), Prices(), None, console)
    return capture.get()


def test_it_is_fetched_by_a_pod_that_is_gone_afterwards(kubectl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = told("recipes", kubectl, monkeypatch)
    assert "Ship it: exact_match 0.670 against 0.610 of the best baseline, retrieval" in said
    assert "The report: bookings-0a1b2c3d.html" in said
    assert (kubectl / "bookings-0a1b2c3d.html").exists()
    asked = (kubectl / "asked").read_text().splitlines()
    assert asked[-1] == "--namespace=kitchen delete pod/reader-1 --wait=false --ignore-not-found"


def test_the_pod_reads_the_volume_and_nothing_else(kubectl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told("recipes", kubectl, monkeypatch)
    pod = json.loads((kubectl / "made.json").read_text())
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["cat", "/workspace/evaluations/00000001/report.json"]
    assert "env" not in container
    # It must not be taken for a pod of the stage.
    assert "labels" not in pod["metadata"]
    assert violations(pod["spec"]) == []


def test_a_job_that_is_not_there_is_said_in_kubectls_words(kubectl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as error:
        told("missing", kubectl, monkeypatch)
    assert error.value.message == 'kubectl get finetunejobs.finetune.dev: finetunejobs "missing" not found'


def test_a_job_that_was_not_measured_is_said_to_be(kubectl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (kubectl / "ftj.json").write_text(json.dumps({"spec": {}, "status": {}}))
    with pytest.raises(UserError) as error:
        told("recipes", kubectl, monkeypatch)
    assert error.value.message == "recipes was not evaluated."


def test_without_kubectl_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="kubectl is not on PATH"):
        Cluster("kitchen").job("recipes")


def test_the_readers_place_is_the_jobs_own() -> None:
    found = target("recipes", training={"pod": {"nodeSelector": {"zone": "a"}, "imagePullSecrets": [{"name": "pull"}]}})
    template = JOBS["evaluate"].job(found, "inputs", suspended=False)["spec"]["template"]["spec"]
    pod = reader(template, "recipes", found.revision, "/workspace/x")
    assert pod["spec"]["nodeSelector"] == {"zone": "a"}
    assert pod["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    assert "requiredDuringSchedulingIgnoredDuringExecution" not in pod["spec"]["affinity"]["podAffinity"]


def test_the_table_has_a_line_for_each_contender() -> None:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(summary(decision()))
    for line in ("tuned", "zero-shot", "few-shot", "retrieval"):
        assert line in capture.get()
    assert "0.670 (0.61 to 0.73)" in capture.get()


def test_only_prices_that_were_given_count() -> None:
    assert given_prices(None, 2.0, None, None) == Prices(accelerator_hour=2.0)


REFUSED = "The connection to the server 10.0.0.1:6443 was refused - did you specify the right host or port?"
LOG = 'E1126 20:00:00.000000   71 memcache.go:265] "Unhandled Error" err="couldn\'t get current server API group list"'


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('Error from server (NotFound): finetunejobs "a" not found\n', 'finetunejobs "a" not found'),
        (f"{LOG}\n{LOG}\n{REFUSED}\n", REFUSED),
        (
            "Warning: would violate PodSecurity\nerror: timed out waiting for the condition",
            "timed out waiting for the condition",
        ),
        (f"{LOG}\n", LOG),
        ("", "it ended without a word."),
    ],
)
def test_of_what_kubectl_says_only_the_fault_is_told(said: str, told: str) -> None:
    assert complaint(said) == told
