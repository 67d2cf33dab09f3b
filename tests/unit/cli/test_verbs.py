"""The verbs about jobs: what each asks kubectl for, what it prints, how it ends, and its sentence for every mistake."""

import json
import os
import sys
from pathlib import Path

import pytest
import yaml
from finetune_cli import plugin, verbs
from finetune_cli.errors import ExitCode, UserError
from finetune_cli.jobs import Logged
from finetune_cli.main import app
from finetune_cli.store import Store
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.finetunejob.stages import STAGES
from finetune_operator.names import RUN_CONFIG
from manifests import SMALLEST
from played_kubectl import Kubectl
from statuses import Raw, ended, raw, serving, status, training
from typer.testing import CliRunner

BAD_ROWS = ended("Failed", "DataReady", "DataInvalid", "No rows.")
MISSED = ended("Rejected", "Evaluated", "GateNotMet", "It misses gate.minimum by 0.1.")


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return Kubectl(directory)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A run of this machine that is over."""
    monkeypatch.chdir(tmp_path)
    store = Store("recipes", tmp_path / ".finetune")
    with store.lock():
        store.write(FineTuneJobStatus.model_validate(training()))
    return store


def said(*arguments: str) -> str:
    """What is printed, each run of blanks being one."""
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def refused(*arguments: str) -> tuple[str, int]:
    with pytest.raises(UserError) as error:
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    return error.value.message, error.value.code


class TestInACluster:
    def test_list_and_describe(self, kubectl: Kubectl) -> None:
        assert "recipes Serving token_f1 0.925 few-shot 0.380 http://recipes.kitchen.svc/v1" in said("list")
        assert "What next `finetune chat recipes` asks it." in said("describe", "-n", "kitchen")
        assert kubectl.asked[-1] == "--namespace=kitchen get finetunejobs.finetune.dev recipes -o json"

    def test_of_all_namespaces_each_job_is_listed_with_its_own(self, kubectl: Kubectl) -> None:
        cellar = raw(training())
        cellar["metadata"]["namespace"] = "cellar"
        kubectl.file("jobs.json", json.dumps({"items": [raw(serving()), cellar]}))
        told = said("list", "-A")
        assert told.startswith("NAMESPACE NAME PHASE")
        assert told.index("cellar recipes Training") < told.index("kitchen recipes Serving")
        assert kubectl.asked == ["get finetunejobs.finetune.dev --all-namespaces -o json"]

    def test_programs_get_the_object_the_list_and_the_status(self, kubectl: Kubectl) -> None:
        assert json.loads(said("describe", "recipes", "-o", "json")) == raw(serving())
        found = CliRunner().invoke(app, ["list", "-o", "yaml"]).output
        assert yaml.safe_load(found) == {"apiVersion": "v1", "kind": "List", "items": [raw(serving())]}
        assert json.loads(said("status", "recipes", "-o", "json"))["phase"] == "Serving"

    def test_wait_tells_progress_and_ends_with_what_became_of_it(self, kubectl: Kubectl) -> None:
        kubectl.has(raw(training()), raw(serving()))
        told = said("wait", "recipes")
        assert "step 40/120 · loss 0.420" in told
        assert "answers as model recipes with revision bbbb0002." in told

    @pytest.mark.parametrize(
        ("document", "code", "sentence"),
        [
            (MISSED, 3, "recipes Rejected (GateNotMet): Evaluated: It misses gate.minimum by 0.1."),
            (
                ended("Failed", "DataReady", "DataInvalid", "No rows."),
                65,
                "recipes Failed (DataInvalid): DataReady: No rows.",
            ),
            (ended("Failed", "Hosted", "EngineFailed", "OOM."), 4, "recipes Failed (EngineFailed): Hosted: OOM."),
            (
                ended("Invalid", "Accepted", "ObjectNotFound", "ConfigMap rows is not there."),
                2,
                "recipes Invalid (ObjectNotFound): Accepted: ConfigMap rows is not there.",
            ),
            (
                ended("Suspended", "Trained", "Suspended", "spec.suspend is true.", "Unknown"),
                4,
                "recipes Suspended (Suspended): Trained: spec.suspend is true.",
            ),
        ],
    )
    def test_wait_ends_with_a_code_for_each_end(
        self, kubectl: Kubectl, document: Raw, code: int, sentence: str
    ) -> None:
        kubectl.has(raw(document))
        assert refused("wait", "recipes") == (sentence, code)

    def test_wait_goes_on_while_somebody_may_mend_it_and_where_the_status_is_an_old_one(self, kubectl: Kubectl) -> None:
        pending = ended("Blocked", "DataReady", "SecretNotFound", "Secret hub is not there.")
        kubectl.has(raw(MISSED, generation=2), raw(pending), raw(serving()))
        assert "Secret hub is not there. (SecretNotFound) Serving" in said("wait", "recipes")

    def test_wait_ends_when_its_time_is_over(self, kubectl: Kubectl) -> None:
        kubectl.has(raw(training()))
        message, code = refused("wait", "recipes", "--timeout", "1s")
        assert message.startswith(
            "recipes is not at its end after 1 s, and goes on. It is Training: Trained: The train"
        )
        assert code == ExitCode.TIMED_OUT

    def test_logs_are_those_of_the_newest_first_pod_of_the_current_stage(self, kubectl: Kubectl) -> None:
        kubectl.has(raw(training()))
        index = "batch.kubernetes.io/job-completion-index"
        pods = [
            ("old", "0", "2026-01-01T00:00:00Z"),
            ("new", "0", "2026-01-02T00:00:00Z"),
            ("peer", "1", "2026-01-03T00:00:00Z"),
        ]
        items = [
            {"metadata": {"name": name, "annotations": {index: number}, "creationTimestamp": made}}
            for name, number, made in pods
        ]
        kubectl.file("pods.json", json.dumps({"items": items}))
        kubectl.file("log", "step [1]\nstep [2]\n")
        assert said("logs", "recipes", "--follow") == "step [1] step [2]"
        labels = "app.kubernetes.io/managed-by=finetune-operator,finetune.dev/job=recipes"
        assert kubectl.asked[-2:] == [
            f"get pods -l {labels},finetune.dev/revision=bbbb0002,finetune.dev/stage=train -o json",
            "logs pod/new --follow",
        ]

    def test_what_serves_on_a_shared_engine_writes_to_the_engines_log(self, kubectl: Kubectl) -> None:
        shared = raw(serving()) | {"spec": {"hosting": {"engine": {"name": "llama"}}}}
        kubectl.has(shared)
        kubectl.file("pods.json", '{"items": [{"metadata": {"name": "llama-1", "creationTimestamp": "2026-01-01"}}]}')
        kubectl.file("log", "ready\n")
        assert said("logs", "recipes", "--stage", "host") == "ready"
        labels = "app.kubernetes.io/managed-by=finetune-operator,finetune.dev/engine=llama"
        assert kubectl.asked[-2:] == [f"get pods -l {labels} -o json", "logs pod/llama-1"]

    def test_logs_are_followed_from_when_the_stage_begins_to_write(self, kubectl: Kubectl) -> None:
        waits = ("Unknown", "Starting", "The train Job is made.")
        before = status("Training", {"Trained": waits, "Ready": waits}, revision="aaaa0009")
        kubectl.has(raw(before), raw(training()))
        kubectl.file("pods.json", '{"items": [{"metadata": {"name": "pod", "creationTimestamp": "2026-01-01"}}]}')
        kubectl.file("log", "step 1\n")
        said("logs", "recipes", "--stage", "train", "--follow")
        assert "finetune.dev/revision=bbbb0002" in kubectl.asked[-2]

    def test_a_stage_without_a_pod_is_told(self, kubectl: Kubectl) -> None:
        kubectl.file("pods.json", '{"items": []}')
        message, _ = refused("logs", "recipes", "--stage", "prepare")
        assert message == (
            "recipes has no pod of prepare: DataReady is True (Succeeded). Pods go with ttlAfterFinished, with another "
            "revision, and as soon as an engine is not needed."
        )

    @pytest.mark.parametrize(
        ("line", "asked"),
        [
            (
                "cancel recipes",
                'patch JOB --type=merge --patch={"spec": {"suspend": true}}',
            ),
            (
                "resume recipes",
                'patch JOB --type=merge --patch={"spec": {"suspend": false}}',
            ),
            ("promote recipes", "annotate JOB finetune.dev/promote=bbbb0002 --overwrite"),
            (
                "promote recipes cccc0003",
                "annotate JOB finetune.dev/promote=cccc0003 --overwrite",
            ),
            ("promote recipes --unpin", "annotate JOB finetune.dev/promote- --overwrite"),
            # Neither the one that was rejected nor the one that failed.
            (
                "rollback recipes",
                "annotate JOB finetune.dev/promote=aaaa0001 --overwrite",
            ),
        ],
    )
    def test_what_changes_a_job_is_what_one_would_type(self, kubectl: Kubectl, line: str, asked: str) -> None:
        told = said(*line.split())
        assert kubectl.asked[-1].replace("finetunejobs.finetune.dev recipes", "JOB") == asked
        assert "recipes" in told

    def test_retry_gives_the_annotation_a_new_value(self, kubectl: Kubectl) -> None:
        assert said("retry", "recipes") == "recipes is tried again; `finetune wait recipes` waits for it."
        assert kubectl.asked[-1].startswith("annotate finetunejobs.finetune.dev recipes finetune.dev/retry=20")

    @pytest.mark.parametrize(
        ("line", "sentence"),
        [
            (
                "promote recipes eeee0005",
                "recipes has no revision eeee0005 that was trained; there is bbbb0002, cccc0003, aaaa0001.",
            ),
            # It failed before it had an artifact.
            (
                "promote recipes dddd0004",
                "recipes has no revision dddd0004 that was trained; there is bbbb0002, cccc0003, aaaa0001.",
            ),
            ("wait recipes --timeout soon", "--timeout soon: write it as 30s, 90m or 6h."),
            (
                "describe missing",
                "No job missing was run in this directory, and in a cluster: kubectl get finetunejobs.finetune.dev: "
                'finetunejobs "missing" not found',
            ),
            (
                "describe missing -n kitchen",
                'kubectl get finetunejobs.finetune.dev: finetunejobs "missing" not found',
            ),
        ],
    )
    def test_a_mistake_has_a_sentence(self, kubectl: Kubectl, line: str, sentence: str) -> None:
        assert refused(*line.split())[0] == sentence

    def test_a_revision_that_is_not_kept_is_not_promised(self, kubectl: Kubectl) -> None:
        kubectl.file("record", "")
        message, _ = refused("rollback", "recipes")
        assert message == (
            "aaaa0001 of recipes is not kept any more (hosting.revisionHistoryLimit): it has to be trained again."
        )
        assert kubectl.asked[-1] == "get configmap recipes-aaaa0001 -o name --ignore-not-found"

    def test_there_may_be_nothing_to_go_back_to(self, kubectl: Kubectl) -> None:
        kubectl.has(raw(MISSED))
        assert refused("rollback", "recipes")[0].startswith("Nothing of recipes serves; `finetune promote recipes REV")
        kubectl.has(raw(status(servedRevision="bbbb0002", history=serving()["history"][:3])))
        assert refused("rollback", "recipes")[0].startswith("recipes has no earlier revision that served")

    def test_the_status_of_another_version_is_told(self, kubectl: Kubectl) -> None:
        kubectl.has(raw({"phase": "FromTheFuture"}))
        assert "written by another version of the operator" in refused("describe", "recipes", "-n", "kitchen")[0]

    def test_as_a_plugin_a_run_of_this_directory_is_not_meant(self, kubectl: Kubectl, here: Store) -> None:
        assert "Suspended" in said("list")
        result = CliRunner().invoke(app, ["list"], prog_name="kubectl finetune", catch_exceptions=False)
        assert "Serving" in result.output


class TestPlan:
    def test_what_was_chosen_and_why(self, kubectl: Kubectl) -> None:
        told = said("plan", "recipes")
        assert "batchSize 16 " in told
        assert "learningRate 2e-4 usual for lora" in told
        found = json.loads(said("plan", "-o", "json"))
        assert found == raw(serving())["status"]["plan"]

    def test_of_a_run_of_this_machine(self, here: Store) -> None:
        with here.lock():
            here.write(FineTuneJobStatus.model_validate(serving()))
        assert "totalSteps 120" in said("plan", "recipes")
        assert yaml.safe_load(CliRunner().invoke(app, ["plan", "-o", "yaml"]).output)["totalSteps"] == 120

    def test_before_the_data_is_prepared_there_is_none(self, kubectl: Kubectl) -> None:
        kubectl.has(raw(BAD_ROWS))
        message, code = refused("plan", "recipes")
        assert message == (
            "recipes has no plan yet: prepare makes it, once it has seen the rows. DataReady is False (DataInvalid): "
            "No rows."
        )
        assert code == ExitCode.FAILED

    def test_a_file_is_planned_here_and_in_no_cluster(self, kubectl: Kubectl) -> None:
        assert refused("plan", "job.yaml", "-n", "kitchen") == (
            "job.yaml is planned on this machine: leave --namespace and --context out.",
            ExitCode.USAGE,
        )
        assert refused("plan", "job.yaml")[1] == ExitCode.USAGE
        assert not (kubectl.directory / "asked").exists()


class TestCompare:
    @pytest.fixture
    def two(self, here: Store) -> None:
        other = Store("cakes", here.directory.parent)
        with other.lock():
            other.write(FineTuneJobStatus.model_validate(serving()))
        for store, epochs in ((here, 3), (other, 5)):
            root = store.workspace("bbbb0002").root
            root.mkdir()
            (root / RUN_CONFIG).write_text(json.dumps({"training": {"epochs": epochs, "seed": 42}}))

    @pytest.mark.usefixtures("two")
    def test_runs_of_this_machine(self) -> None:
        told = said("compare", "recipes", "cakes")
        assert "Suspended · revision bbbb0002" in told
        assert "tuned, token_f1 - 0.925" in told
        assert "few-shot, token_f1 - 0.380" in told
        assert "training.epochs 3 5" in told
        assert "training.seed" not in told
        # Only one of them was measured.
        assert "finetune report" not in told

    @pytest.mark.usefixtures("two")
    def test_for_programs(self) -> None:
        found = json.loads(said("compare", "recipes", "cakes", "-o", "json"))
        assert [each["metadata"]["name"] for each in found["jobs"]] == ["recipes", "cakes"]
        assert found["changed"] == {"training.epochs": ["3", "5"]}

    @pytest.mark.usefixtures("two")
    def test_with_itself(self) -> None:
        assert "Nothing was asked for differently. `finetune report cakes cakes` has the costs" in said(
            "compare", "cakes", "cakes"
        )

    def test_a_run_and_a_clusters_job_are_not_compared_by_what_was_asked_for(
        self, kubectl: Kubectl, here: Store
    ) -> None:
        kubectl.has(raw(serving(), name="cakes"))
        assert "one is a run of this machine, the other a cluster's." in said("compare", "recipes", "cakes")
        assert "changed" not in json.loads(said("compare", "recipes", "cakes", "-o", "json"))

    def test_a_job_that_is_not_there(self, kubectl: Kubectl) -> None:
        message, code = refused("compare", "recipes", "missing")
        assert message.startswith("No job missing was run in this directory, and in a cluster: ")
        assert code == ExitCode.USAGE


class TestCompletion:
    def proposed(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["kubectl_complete-finetune", *words])
        for name in ("COMP_WORDS", "COMP_CWORD", "_KUBECTL FINETUNE_COMPLETE"):
            # Set by it, and taken back with the test.
            monkeypatch.setenv(name, "")
        plugin.complete()
        return capsys.readouterr().out.splitlines()

    def test_names_are_those_of_the_namespace_on_the_line(
        self, kubectl: Kubectl, here: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        kubectl.has(raw(serving(), name="cakes"))
        assert self.proposed(monkeypatch, capsys, "describe", "-n", "kitchen", "c") == ["cakes", ":4"]
        assert kubectl.asked == ["--namespace=kitchen get finetunejobs.finetune.dev -o json"]
        assert self.proposed(monkeypatch, capsys, "describe", "re") == [":0"]

    def test_a_cluster_that_does_not_answer_disturbs_nobody_who_types(
        self, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.proposed(monkeypatch, capsys, "describe", "-n", "missing", "r") == [":0"]


class TestApply:
    @pytest.fixture
    def manifest(self, tmp_path: Path) -> str:
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(SMALLEST))
        return "job.yaml"

    def test_it_waits_tells_progress_and_what_next(self, kubectl: Kubectl, manifest: str) -> None:
        kubectl.has(raw(training()), raw(serving()))
        told = said("apply", "-f", manifest)
        assert told.startswith("kitchen/recipes is applied. Training · revision bbbb0002 · step 40/120")
        assert told.endswith(
            "`finetune chat recipes` asks it. `finetune report recipes` tells whether it was worth it."
        )
        assert kubectl.asked[0] == "apply -f - -o json"

    def test_its_exit_code_is_that_of_what_became_of_it(self, kubectl: Kubectl, manifest: str) -> None:
        kubectl.has(raw(MISSED))
        assert refused("apply", "-f", manifest)[1] == ExitCode.GATE_NOT_MET

    def test_it_waits_in_the_namespace_that_the_manifest_names(self, kubectl: Kubectl, manifest: str) -> None:
        named = {**SMALLEST, "metadata": {"name": "recipes", "namespace": "kitchen"}}
        Path(manifest).write_text(yaml.safe_dump(named))
        said("apply", "-f", manifest)
        assert [line.split()[0] for line in kubectl.asked] == ["--namespace=kitchen", "--namespace=kitchen"]

    def test_it_need_not_wait(self, kubectl: Kubectl, manifest: str) -> None:
        told = said("apply", "-f", manifest, "--no-wait", "-n", "kitchen")
        assert told == "kitchen/recipes is applied. `finetune wait recipes` waits for it."
        assert kubectl.asked == ["--namespace=kitchen apply -f - -o json"]

    def test_ctrl_c_ends_the_waiting_alone(
        self, kubectl: Kubectl, manifest: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stopped(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(verbs, "wait_for", stopped)
        sentence = "recipes goes on; `finetune wait recipes` waits for it again."
        assert refused("apply", "-f", manifest) == (sentence, ExitCode.INTERRUPTED)

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("", "job.yaml: has 0 documents; put one FineTuneJob in a file of its own."),
            (yaml.safe_dump({**SMALLEST, "kind": "Job"}), "job.yaml: kind: "),
        ],
    )
    def test_a_wrong_manifest_is_told_before_the_cluster_is_asked(
        self, kubectl: Kubectl, manifest: str, text: str, sentence: str
    ) -> None:
        Path(manifest).write_text(text)
        message, code = refused("apply", "-f", manifest)
        assert message.startswith(sentence)
        assert code == ExitCode.USAGE
        assert not (kubectl.directory / "asked").exists()


class TestClean:
    def test_a_run_of_this_machine(self, here: Store) -> None:
        assert said("clean", "recipes", "--yes") == "recipes is removed."
        assert not here.directory.exists()

    def test_of_a_run_of_this_machine_earlier_revisions_alone(self, here: Store) -> None:
        for revision in ("aaaa0001", "bbbb0002"):
            log = here.log(revision, "train")
            log.parent.mkdir(parents=True)
            log.write_text("step 1\n")
        assert said("clean", "recipes", "--earlier", "--yes") == "Removed of recipes: aaaa0001."
        assert said("logs", "recipes") == "step 1"
        assert said("clean", "recipes", "--earlier", "-y") == "Removed of recipes: nothing, there is one revision."
        assert not here.log("aaaa0001", "train").exists()

    def test_in_a_cluster_earlier_revisions_go_by_themselves(self, kubectl: Kubectl) -> None:
        assert refused("clean", "recipes", "--earlier", "-y")[0] == (
            "Earlier revisions of recipes go by themselves: hosting.revisionHistoryLimit says how many are kept."
        )

    def test_of_a_cluster(self, kubectl: Kubectl) -> None:
        said("clean", "recipes", "-y")
        assert kubectl.asked[-1] == "delete finetunejobs.finetune.dev recipes"

    def test_nothing_is_removed_without_a_yes(self, kubectl: Kubectl) -> None:
        result = CliRunner().invoke(app, ["clean", "recipes"], input="n\n")
        assert "and http://recipes.kitchen.svc/v1 answers no more; what was published stays? [y/N]: n" in result.output
        assert result.output.endswith("Nothing is removed.\n")
        assert "delete" not in " ".join(kubectl.asked)

    def test_a_run_that_is_under_way_is_left_alone(self, here: Store) -> None:
        with here.lock():
            message, _ = refused("clean", "recipes", "--yes")
        assert message == f"recipes is being run already, by process {os.getpid()}; `finetune cancel recipes` ends it."
        assert here.status_file.exists()


class TestOnThisMachine:
    def test_a_run_that_is_over_is_not_said_to_train(self, here: Store) -> None:
        assert "recipes Suspended" in said("list")
        assert "What next `finetune run` of its manifest goes on." in said("describe")
        Path("recipes.yaml").touch()
        assert "What next `finetune resume recipes` goes on." in said("describe")
        assert json.loads(said("status", "-o", "json"))["phase"] == "Suspended"
        assert yaml.safe_load(CliRunner().invoke(app, ["describe", "-o", "yaml"]).output)["metadata"] == {
            "name": "recipes"
        }

    def test_one_that_is_under_way_is(self, here: Store) -> None:
        with here.lock():
            assert "recipes Training 40/120" in said("list")

    def test_watching_ends_when_it_is_over(self, here: Store) -> None:
        assert "Suspended · revision bbbb0002" in said("status", "--watch")
        assert refused("wait")[0].startswith("recipes Suspended (Suspended): Trained: The run was killed")

    def test_logs(self, here: Store) -> None:
        log = here.log("bbbb0002", "train")
        log.parent.mkdir(parents=True)
        log.write_text("step 1\nstep 2\n")
        assert said("logs") == "step 1 step 2"
        assert said("logs", "--follow") == "step 1 step 2"
        assert refused("logs", "--stage", "host")[0] == "recipes has no log of host yet; there is train."

    @pytest.mark.parametrize(
        ("line", "sentence"),
        [
            ("cancel recipes", "No `finetune run` of recipes is under way; `finetune run` of its manifest starts one."),
            (
                "resume recipes",
                "recipes is a run of this machine: `finetune run` of its manifest goes on from where it stopped. "
                "--namespace names a cluster's.",
            ),
            (
                "retry recipes",
                "recipes is a run of this machine: `finetune run` of its manifest tries again what failed. --namespace "
                "names a cluster's.",
            ),
            (
                "promote recipes --unpin",
                "recipes is a run of this machine: `finetune run` of its manifest serves the revision that it "
                "describes once that passes evaluation.gate, and no other. --namespace names a cluster's.",
            ),
            (
                "rollback recipes",
                "recipes is a run of this machine: `finetune run` of its manifest serves the revision that it "
                "describes once that passes evaluation.gate, and no other. --namespace names a cluster's.",
            ),
        ],
    )
    def test_a_mistake_has_a_sentence(self, here: Store, line: str, sentence: str) -> None:
        assert refused(*line.split())[0] == sentence

    def test_cancel_asks_the_run_to_end(self, here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[tuple[int, int]] = []
        with here.lock():
            monkeypatch.setattr(os, "kill", lambda *told: asked.append(told))
            told = said("cancel", "recipes")
        assert asked == [(os.getpid(), 15)]
        assert told.startswith("recipes stops and keeps a checkpoint; `finetune run` of its manifest goes on")


def test_every_stage_that_runs_as_a_process_has_a_log_to_ask_for() -> None:
    assert [stage.name for stage in STAGES if stage.name != "promote"] == [each.value for each in Logged]
