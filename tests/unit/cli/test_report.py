"""`finetune report`: what it prints, and the pod that reads a report out of a cluster."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from decisions import ROWS, contender, decision, result
from finetune_cli.card import write_card
from finetune_cli.cluster import Cluster, reader
from finetune_cli.compare import versus
from finetune_cli.errors import UserError
from finetune_cli.kubectl import complaint
from finetune_cli.main import app
from finetune_cli.output import OutputFormat
from finetune_cli.report import given_prices, report_on, summary, write_failures
from finetune_cli.store import Store
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.finetunejob.desired.hosting import deployment, pod_template
from finetune_operator.finetunejob.desired.run_config import run_config
from finetune_operator.finetunejob.stages import JOBS
from finetune_operator.finetunejob.stages.evaluate import evaluated
from finetune_trainer.__main__ import parse
from finetune_trainer.contract.config import Metric, Prices, RunConfig, Workspace
from finetune_trainer.contract.results import EvaluateResult
from finetune_trainer.evaluation.decision import Decision
from finetune_trainer.evaluation.inspection import Learned, Row
from finetune_trainer.evaluation.page import render
from finetune_trainer.server import Reporter
from finetune_trainer.stages.prepare import prepare
from huggingface_hub import ModelCard
from rendering import host, target
from restricted import bounded, violations
from rich.console import Console
from tiny import CHATML, write_model
from typer.testing import CliRunner


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that says what a cluster with one measured FineTuneJob would, and keeps what it was asked."""
    found, decided = target("recipes"), decision()
    step = evaluated(decided.result, found.spec, f"pvc://recipes-{found.revision}/evaluations/00000001/report.html")
    job = {
        "metadata": {"name": "recipes"},
        "spec": found.spec.model_dump(mode="json", by_alias=True, exclude_unset=True),
        "status": {"evaluation": step.status["evaluation"].model_dump(mode="json", by_alias=True, exclude_none=True)},
    }
    files = {
        "ftj.json": job,
        "job.json": JOBS["evaluate"].job(found, "inputs"),
        "pod.json": {"metadata": {"name": "reader-1"}},
        "jobs.json": {"items": [job]},
        "record.json": {"data": {"evaluated-00000001.json": "{}", "config.json": "{}"}},
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
  *"get finetunejobs.finetune.dev -o"*) cat jobs.json;;
  *"get finetunejobs"*) cat ftj.json;;
  *"get configmap"*) cat record.json;;
  *"get job"*) cat job.json;;
  *"get deployment"*) cat deployment.json;;
  *create*) cat > made.json; cat pod.json;;
  *logs*) if grep -q rows.jsonl made.json; then cat rows.jsonl; else cat report.json; fi;;
esac
""")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def told(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        report_on(name, Cluster("kitchen"), Prices(), None, OutputFormat.TABLE, console)
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
    assert bounded(container)
    # It must not be taken for a pod of the stage.
    assert "labels" not in pod["metadata"]
    assert violations(pod["spec"]) == []


def test_a_job_that_is_not_there_is_said_in_kubectls_words(kubectl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as error:
        told("missing", kubectl, monkeypatch)
    assert error.value.message == 'kubectl get finetunejobs.finetune.dev: finetunejobs "missing" not found'


def test_once_its_jobs_are_gone_it_is_read_as_its_engine_reads_it(
    kubectl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = target("recipes")
    (kubectl / "job.json").write_text("")
    pod = pod_template(found, run_config("recipes", found.revision, found.spec), 512)
    (kubectl / "deployment.json").write_text(json.dumps(deployment(found, pod, 1)))
    told("recipes", kubectl, monkeypatch)
    made = json.loads((kubectl / "made.json").read_text())["spec"]
    (container,) = made["containers"]
    assert container["command"] == ["cat", "/workspace/evaluations/00000001/report.json"]
    assert "/workspace" in [mount["mountPath"] for mount in container["volumeMounts"]]
    assert violations(made) == []


def test_where_nothing_could_read_it_a_sentence_says_why(kubectl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("job", "deployment"):
        (kubectl / f"{kind}.json").write_text("")
    revision = target("recipes").revision
    with pytest.raises(UserError) as error:
        told("recipes", kubectl, monkeypatch)
    assert error.value.message == (
        f"The Jobs of revision {revision} are gone (ttlAfterFinished), and no engine of it is there whose pods could "
        f"show how to read the report. If PersistentVolumeClaim recipes-{revision} still is, its directory evaluations "
        "has it."
    )


def test_a_job_that_was_not_measured_is_said_to_be(kubectl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (kubectl / "ftj.json").write_text(json.dumps({"metadata": {"name": "recipes"}, "spec": {}, "status": {}}))
    with pytest.raises(UserError) as error:
        told("recipes", kubectl, monkeypatch)
    assert (
        error.value.message
        == "recipes was not evaluated: set evaluation.enabled, wait for it, or name a revision that was."
    )


def test_without_kubectl_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="kubectl is not on PATH"):
        Cluster("kitchen").job("recipes")


def test_the_readers_place_is_the_jobs_own() -> None:
    found = target("recipes", training={"pod": {"nodeSelector": {"zone": "a"}, "imagePullSecrets": [{"name": "pull"}]}})
    template = JOBS["evaluate"].job(found, "inputs")["spec"]["template"]["spec"]
    pod = reader(template, "recipes", found.revision, "/workspace/x")
    # A node that failed to start its container tries again, and not for ever.
    assert (pod["spec"]["restartPolicy"], pod["spec"]["activeDeadlineSeconds"]) == ("OnFailure", 180)
    assert pod["spec"]["nodeSelector"] == {"zone": "a"}
    assert pod["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    assert "requiredDuringSchedulingIgnoredDuringExecution" not in pod["spec"]["affinity"]["podAffinity"]


def test_of_a_workspace_in_a_bucket_the_reader_has_the_file_brought() -> None:
    found = target(
        "recipes", workspace={"bucket": "s3://work/finetune", "credentials": {"secretRef": {"name": "work"}}}
    )
    evaluated = JOBS["evaluate"].job(found, "inputs")["spec"]["template"]["spec"]
    for template in (evaluated, host(found)["spec"]["template"]["spec"]):
        pod = reader(template, "recipes", found.revision, "/workspace/evaluations/ab/report.json")["spec"]
        (brings,), (reads,) = pod["initContainers"], pod["containers"]
        where = f"s3://work/finetune/team/the-uid/recipes-{found.revision}"
        assert brings["args"] == [
            "--bucket",
            where,
            "--workspace",
            "/workspace",
            "--only",
            "evaluations/ab/report.json",
        ]
        assert parse(["bring", *brings["args"]]).only == ["evaluations/ab/report.json"]
        assert bounded(brings)
        assert brings["image"] == reads["image"] == "trainer:1"
        keys = [each["valueFrom"]["secretKeyRef"]["name"] for each in brings["env"] if "valueFrom" in each]
        assert set(keys) == {"work"}
        assert "env" not in reads


def test_the_table_has_a_line_for_each_contender() -> None:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(summary(decision()))
    for line in ("tuned", "zero-shot", "few-shot", "retrieval"):
        assert line in capture.get()
    assert "0.670 (0.61 to 0.73)" in capture.get()


def test_cut_answers_are_counted_and_mark_the_score() -> None:
    whole = result()
    zero = whole.baselines["zero-shot"]
    cut = zero.model_copy(update={"requests": zero.requests.model_copy(update={"cut": 37})})
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(summary(decision(whole.model_copy(update={"baselines": whole.baselines | {"zero-shot": cut}}))))
    lines = [line.split() for line in capture.get().splitlines() if line.strip().startswith("zero-shot")]
    assert lines[0][-2:] == ["*", "37"]
    assert "More than 2% of the answers were cut" in capture.get()


def elsewhere(metrics: tuple[Metric, ...] = (Metric.EXACT_MATCH,)) -> EvaluateResult:
    """The result with another model, large, behind an endpoint of its own."""
    found = result(metrics=metrics)
    scores = dict.fromkeys(metrics, found.tuned.scores[Metric.EXACT_MATCH])
    ours = {name: each.model_copy(update={"scores": scores}) for name, each in found.baselines.items()}
    large = contender(0.5, 100, 0.67).model_copy(update={"model": "large-9"})
    tuned = found.tuned.model_copy(update={"scores": scores})
    return found.model_copy(update={"tuned": tuned, "baselines": ours | {"large": large}})


def test_what_an_endpoint_does_not_tell_is_left_out_and_said() -> None:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        found = elsewhere((Metric.EXACT_MATCH, Metric.INVERSE_PERPLEXITY))
        console.print(summary(decision(found, rows=())))
    lines = [line.split() for line in capture.get().splitlines() if line.strip().startswith("large")]
    assert lines[0][-2:] == ["-", "0"]
    assert "An endpoint tells no likelihoods, so that large has no inverse_perplexity." in capture.get()


def test_an_endpoints_price_is_the_manifests_as_it_is_now(kubectl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = json.loads((kubectl / "ftj.json").read_text())
    prices = {"millionPromptTokens": 10, "millionCompletionTokens": 0}
    endpoint = {"type": "endpoint", "url": "https://api/v1", "model": "large", "prices": prices}
    job["spec"]["evaluation"] = {"baselines": [endpoint]}
    (kubectl / "ftj.json").write_text(json.dumps(job))
    (kubectl / "report.json").write_text(decision(elsewhere()).model_dump_json(by_alias=True))
    assert "USD 1.00" in " ".join(told("recipes", kubectl, monkeypatch).split())


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


def ran(root: Path, revision: str, decided: Decision, rows: tuple[Row, ...] = ROWS) -> None:
    """What `finetune run` leaves of a revision that was measured."""
    store = Store("bookings", root / ".finetune")
    directory = store.workspace(revision).evaluations / "00000001"
    directory.mkdir(parents=True)
    (directory / "report.json").write_text(decided.model_dump_json(by_alias=True))
    (directory / "rows.jsonl").write_text("".join(row.model_dump_json(by_alias=True) + "\n" for row in rows))
    (directory / "report.html").write_text(render(decided))
    step = evaluated(decided.result, target("bookings").spec, (directory / "report.html").as_uri())
    store.write(FineTuneJobStatus(revision=revision, evaluation=step.status["evaluation"]))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, and no kubectl."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    return tmp_path


def printed(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["report", *arguments], catch_exceptions=False, env={"COLUMNS": "200"})
    return done.output


class TestWhichReport:
    def test_of_the_only_run_in_this_directory(self, here: Path) -> None:
        ran(here, "0a1b2c3d", decision())
        assert "Ship it: exact_match 0.670" in printed()
        assert printed("bookings") == printed() == printed("bookings/0a1b2c3d")

    def test_of_a_cluster_where_nothing_was_run_here(self, kubectl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(kubectl)
        for arguments in ((), ("recipes",), ("recipes", "-n", "kitchen")):
            assert "Ship it: exact_match 0.670" in printed(*arguments)

    def test_in_an_empty_directory_without_kubectl_both_are_told(self, here: Path) -> None:
        with pytest.raises(UserError) as error:
            printed()
        assert error.value.message == (
            "No job was run in this directory yet, and in a cluster: kubectl is not on PATH; it is what "
            "`finetune` asks a cluster with."
        )

    def test_of_several_in_a_cluster_the_names_are_told(self, kubectl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(kubectl)
        names = [{"metadata": {"name": name}} for name in ("tickets", "recipes")]
        (kubectl / "jobs.json").write_text(json.dumps({"items": names}))
        with pytest.raises(UserError, match="Which FineTuneJob\\? There are recipes, tickets"):
            printed()
        (kubectl / "jobs.json").write_text('{"items": []}')
        with pytest.raises(UserError, match="There is no FineTuneJob in this namespace"):
            printed()

    def test_a_revision_that_was_not_measured_names_those_that_were(self, here: Path) -> None:
        ran(here, "0a1b2c3d", decision())
        with pytest.raises(UserError) as error:
            printed("bookings/ffffffff")
        assert error.value.message == "bookings has no report of revision ffffffff; there is 0a1b2c3d."

    def test_an_earlier_revision_is_read_from_its_own_volume(
        self, kubectl: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(kubectl)
        assert "Ship it" in printed("recipes/0ld0ld00")
        pod = json.loads((kubectl / "made.json").read_text())
        claims = {volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod["spec"]["volumes"]}
        assert "recipes-0ld0ld00" in claims


class TestWhatIsPrinted:
    def test_all_that_the_page_has(self, here: Path) -> None:
        learned = Learned(prompt="A table for three", reference='{"people": "three"}')
        ran(here, "0a1b2c3d", decision(similar=lambda row: [learned], prices=Prices(accelerator_hour=2)))
        said = printed()
        for part in (
            "Against retrieval it has won 0 rows and lost 2.",
            "Left out since they stand in train: 0 rows exactly, 0 nearly.",
            "Training: 100,000 tokens, 1.00 hours, 1.00 accelerator hours.",
            "Together: USD 2.00.",
            "Not counted: preparing the data",
            "By tokens, training is paid back after 3,185 requests",
            "By money, training is paid back after",
            "2 of 200 rows were answered better by a baseline.",
            "yes please",
            "train: A table for three",
            "Where do the answers disagree most?",
            "drifted by 0.31 (0.20 to 0.42)",
            "Nothing in the measurements suggests another try.",
        ):
            assert part in said

    def test_as_json_it_is_the_report_and_nothing_else(self, here: Path) -> None:
        ran(here, "0a1b2c3d", decision())
        assert Decision.model_validate_json(printed("-o", "json")) == decision()
        assert Decision.model_validate(yaml.safe_load(printed("-o", "yaml"))) == decision()
        priced = Decision.model_validate_json(printed("-o", "json", "--accelerator-hour", "3"))
        assert priced.making.money == 3


class TestFailures:
    def rows(self) -> tuple[Row, ...]:
        asked = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "yes\u2028please"})
        answers = ROWS[1].answers | {"tuned": "two\u2028of us"}
        return (ROWS[0], ROWS[1].model_copy(update={"prompt": asked, "answers": answers}), ROWS[2])

    def test_wrong_answers_are_preference_pairs_in_trls_form_the_worst_first(self, here: Path) -> None:
        ran(here, "0a1b2c3d", decision(), self.rows())
        out, notes = Console(width=40, color_system=None), Console(width=200, color_system=None)
        with out.capture() as said, notes.capture() as noted:
            write_failures("bookings", None, None, out, notes)
        first, second = (json.loads(line) for line in said.get().split("\n") if line)
        assert first == {
            "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "yes\u2028please"}],
            "chosen": [{"role": "assistant", "content": "{}"}],
            "rejected": [{"role": "assistant", "content": "two\u2028of us"}],
        }
        assert second["chosen"] == '{"people": "two", "time": "seven"}'
        assert noted.get().startswith(
            "2 pairs of 200 test rows, by exact_match. A model that learns from them has seen"
        )

    def test_into_a_file(self, here: Path) -> None:
        ran(here, "0a1b2c3d", decision(), self.rows())
        printed("--failures", "--save", "pairs.jsonl")
        assert (here / "pairs.jsonl").read_text().count("\n") == 2

    @pytest.mark.parametrize("chat", [True, False])
    def test_they_are_the_dataset_of_a_dpo_job(self, here: Path, chat: bool) -> None:
        asked = [{"role": "user", "content": "flour"}, {"role": "assistant", "content": "cups"}]
        prompts: dict[str, Any] = {
            answer: (*asked, {"role": "user", "content": f"list {answer}"}) if chat else f"list {answer}: "
            for answer in ("two eggs", "three", " ", "")
        }
        wrong = tuple(
            Row(prompt=prompt, reference="egg", answers={"tuned": answer}, scores={Metric.EXACT_MATCH: {"tuned": 0}})
            for answer, prompt in prompts.items()
        )
        ran(here, "0a1b2c3d", decision(), wrong)
        said = printed("--failures", "--save", "pairs.jsonl")
        pairs = {"uri": "file://pairs.jsonl", "path": here / "pairs.jsonl"}
        model = {"source": {"uri": "file://model", "path": write_model(here / "model", CHATML if chat else None)}}
        told = {"name": "better", "revision": "4d5e6f70", "model": model, "dataset": {"train": pairs}}
        workspace = Workspace(here / "workspace")
        workspace.root.mkdir()
        config = RunConfig.model_validate(told | {"training": {"method": "dpo"}})
        found = prepare(config, workspace, Reporter("prepare"))
        assert (found.dataset.format, found.dataset.rows.train) == ("preference", 2)
        assert said.startswith("2 pairs of 200 test rows")


class TestCard:
    FETCHED = "---\nbase_model: org/base\npipeline_tag: text-generation\n---\n\n# bookings\n\nThis is a LoRA adapter.\n"

    def fetched(self, here: Path, revision: str = "0a1b2c3d") -> Path:
        (here / "adapter").mkdir()
        (here / "adapter/run_config.json").write_text(json.dumps({"revision": revision}))
        card = here / "adapter/README.md"
        card.write_text(self.FETCHED)
        return card

    def test_a_card_that_was_fetched_gets_the_scores_as_the_hub_shows_them(self, here: Path) -> None:
        ran(here, "0a1b2c3d", decision())
        card = self.fetched(here)
        said = printed("--card", str(card))
        found = ModelCard.load(card)
        (score,) = found.data.eval_results
        assert (score.metric_type, score.metric_value, score.dataset_split) == ("exact_match", 0.67, "test")
        assert (found.data.model_name, found.data.base_model) == ("bookings", "org/base")
        assert "This is a LoRA adapter.\n\n## Evaluation" in found.text
        assert "| retrieval | 0.610 (0.55 to 0.67) |" in found.text
        assert "It is another file now than the one that the artifact's digest covers." in said

    def test_another_time_it_replaces_what_it_wrote(self, here: Path) -> None:
        ran(here, "0a1b2c3d", decision())
        card = self.fetched(here)
        printed("--card", str(card))
        once = card.read_text()
        printed("--card", str(card))
        assert card.read_text() == once

    def test_the_card_of_another_revision_is_left_alone(self, here: Path) -> None:
        ran(here, "0a1b2c3d", decision())
        card = self.fetched(here, "ffffffff")
        with pytest.raises(UserError) as error:
            write_card("bookings", None, card, Console())
        assert error.value.message == (
            f"{card} is of revision ffffffff, and the report of 0a1b2c3d: name bookings/ffffffff."
        )
        assert card.read_text() == self.FETCHED

    def test_a_file_that_is_no_card_is_refused(self, here: Path) -> None:
        ran(here, "0a1b2c3d", decision())
        with pytest.raises(UserError, match=r"is no model card of an artifact: name the README\.md that was fetched"):
            write_card("bookings", None, here / "README.md", Console())


class TestSideBySide:
    def two(self, here: Path) -> None:
        better = ROWS[1].model_copy(
            update={
                "answers": {"tuned": "{}", "retrieval": "{}"},
                "scores": {Metric.EXACT_MATCH: {"tuned": 1.0, "retrieval": 1.0}},
            }
        )
        worse = ROWS[2].model_copy(
            update={
                "answers": {"tuned": "no", "retrieval": "{}"},
                "scores": {Metric.EXACT_MATCH: {"tuned": 0.0, "retrieval": 1.0}},
            }
        )
        ran(here, "0ld0ld00", decision(manifest={"training.seed": "42", "training.epochs": "3"}))
        new = decision(result(0.7), manifest={"training.seed": "7", "training.epochs": "3", "training.maxSteps": "9"})
        ran(here, "0a1b2c3d", new, (ROWS[0], better, worse))

    def test_scores_costs_the_manifest_and_the_rows_that_flipped(self, here: Path) -> None:
        self.two(here)
        said = printed("bookings/0ld0ld00", "bookings/0a1b2c3d")
        lines = {" ".join(line.split()) for line in said.splitlines()}
        assert "exact_match 0.670 (0.61 to 0.73) 0.700 (0.64 to 0.76)" in lines
        assert "retrieval, exact_match 0.610 0.610" in lines
        assert "training.seed 42 7" in lines
        assert "training.maxSteps 9" in lines
        assert "training.epochs" not in said
        told = "Of 3 test rows that both were asked, bookings/0a1b2c3d answers 1 better and 1 worse by exact_match."
        assert told in " ".join(said.split())
        assert said.index("-1.00 no thanks") < said.index("+1.00 yes please")

    def test_of_a_cluster_the_rows_are_read_by_pods_too(self, kubectl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(kubectl)
        lines = [ROWS[0].model_copy(update={"prompt": str(number)}).model_dump_json() for number in range(200)]
        (kubectl / "rows.jsonl").write_text("\n".join(lines) + "\n")
        said = printed("recipes/0ld0ld00", "recipes", "-n", "kitchen")
        assert "Of 200 test rows that both were asked, recipes answers 0 better and 0 worse" in said
        assert "Nothing in the manifest differs." in said

    def test_rows_of_which_the_node_has_kept_the_end_are_not_taken_for_all(
        self, kubectl: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(kubectl)
        (kubectl / "rows.jsonl").write_text(ROWS[0].model_dump_json() + "\n")
        with pytest.raises(UserError, match="longer than its node keeps of a log"):
            printed("recipes", "--failures")

    def test_as_json(self, here: Path) -> None:
        self.two(here)
        found = json.loads(printed("bookings/0ld0ld00", "bookings", "-o", "json"))
        assert found["changed"] == {"training.maxSteps": [None, "9"], "training.seed": ["42", "7"]}
        assert [flip["gained"] for flip in found["flips"]] == [-1, 1]
        assert found["after"]["revision"] == "0a1b2c3d"

    def test_without_a_metric_in_common_they_are_not_compared(self) -> None:
        one = decision()
        measured = one.result.model_copy(update={"metrics": (Metric.ROUGE_L,)})
        other = one.model_copy(update={"result": measured, "metric": Metric.ROUGE_L})
        with pytest.raises(UserError, match="was measured by exact_match and bookings by rouge_l: give both a metric"):
            versus(one, other, ROWS, ROWS)
