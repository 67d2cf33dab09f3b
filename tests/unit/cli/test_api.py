"""The Python interface for notebooks: the command line's own functions, typed, with errors that are sentences."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from decisions import decision
from finetune_cli import api as finetune
from finetune_cli.store import Store
from finetune_operator.api.status import FineTuneJobStatus, Phase
from finetune_operator.finetunejob.stages.evaluate import evaluated
from finetune_operator.names import RUN_CONFIG
from finetune_trainer.contract.config import Prices
from manifests import SMALLEST
from played_kubectl import Kubectl
from rendering import target
from statuses import ended, raw, serving, training


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return Kubectl(directory)


def test_a_notebook_from_its_manifest_to_what_became_of_it(
    kubectl: Kubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.has(raw(training()), raw(serving()))
    applied = finetune.apply(SMALLEST)
    job = finetune.wait(applied.name)
    assert (applied.name, job.status.phase) == ("recipes", Phase.SERVING)
    assert job.status.endpoint is not None
    assert job.status.endpoint.url == "http://recipes.kitchen.svc/v1"
    assert "step 40/120" in capsys.readouterr().out
    assert [each.name for each in finetune.jobs()] == [finetune.job().name]
    finetune.wait(progress=False)
    assert capsys.readouterr().out == ""


def test_a_file_is_applied_to_the_namespace_that_it_names(kubectl: Kubectl, tmp_path: Path) -> None:
    named = {**SMALLEST, "metadata": {"name": "recipes", "namespace": "kitchen"}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(named))
    finetune.apply("job.yaml")
    finetune.apply(tmp_path / "job.yaml", namespace="cellar")
    assert kubectl.asked == [f"--namespace={name} apply -f - -o json" for name in ("kitchen", "cellar")]


def test_what_has_failed_is_an_error_with_the_commands_exit_code(kubectl: Kubectl) -> None:
    kubectl.has(raw(ended("Failed", "DataReady", "DataInvalid", "No rows.")))
    with pytest.raises(finetune.Error, match="recipes Failed") as error:
        finetune.wait(progress=False)
    assert (error.value.code, str(error.value)) == (65, "recipes Failed (DataInvalid): DataReady: No rows.")


def test_mistakes_are_sentences(kubectl: Kubectl) -> None:
    with pytest.raises(finetune.Error) as error:
        finetune.apply({**SMALLEST, "spec": {**SMALLEST["spec"], "trainig": {}}})
    assert error.value.message.startswith("spec.trainig: ")
    with pytest.raises(finetune.Error) as error:
        finetune.wait(timeout="soon")
    assert error.value.message == "timeout soon: write it as 30s, 90m or 6h."


def test_of_a_run_of_this_machine_logs_and_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("bookings", tmp_path / ".finetune")
    directory = store.workspace("0a1b2c3d").evaluations / "00000001"
    directory.mkdir(parents=True)
    (directory / "report.json").write_text(decision().model_dump_json(by_alias=True))
    step = evaluated(decision().result, target("bookings").spec, (directory / "report.html").as_uri())
    with store.lock():
        store.write(FineTuneJobStatus(revision="0a1b2c3d", evaluation=step.status["evaluation"]))
    log = store.log("0a1b2c3d", "train")
    log.parent.mkdir(parents=True)
    log.write_text("step 1\n")
    assert list(finetune.logs("bookings", finetune.Logged.TRAIN)) == ["step 1\n"]
    assert finetune.report().headline.startswith("Ship it: exact_match 0.670")
    assert finetune.report(prices=Prices(accelerator_hour=2.5)).making.money == 2.5


def run_here(tmp_path: Path, name: str, epochs: int) -> None:
    store = Store(name, tmp_path / ".finetune")
    root = store.workspace("bbbb0002").root
    root.mkdir(parents=True)
    (root / RUN_CONFIG).write_text(json.dumps({"training": {"epochs": epochs, "seed": 42}}))
    with store.lock():
        store.write(FineTuneJobStatus.model_validate(serving()))


def test_the_plan_and_what_two_were_asked_differently(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl.has(raw(serving()))
    assert finetune.plan("recipes").learning_rate == "2e-4"
    for name, epochs in (("bread", 3), ("cakes", 5)):
        run_here(tmp_path, name, epochs)
    assert finetune.plan("cakes").total_steps == 120
    assert finetune.compare("bread", "cakes") == (finetune.Difference("training.epochs", "3", "5"),)
    with pytest.raises(finetune.Error) as error:
        finetune.compare("bread", "recipes")
    assert error.value.message == (
        "bread and recipes are not at one place: compare two runs of this machine, or two of a cluster's."
    )
    with pytest.raises(finetune.Error) as error:
        finetune.plan("job.yaml", namespace="kitchen")
    assert error.value.message == "job.yaml is planned on this machine: leave namespace and context out."
    with pytest.raises(finetune.Error, match=r"job\.yaml"):
        finetune.plan(Path("job.yaml"))


def test_it_is_imported_without_what_trains() -> None:
    script = (
        "import sys, finetune_cli.api; print(sorted({'torch', 'transformers', 'trl', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
