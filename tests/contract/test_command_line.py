"""The verbs about jobs with a real kubectl and API server: what they ask for is what it takes.

Nobody works on the jobs: a test writes what an operator would.
"""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from control_plane import ControlPlane, Kubectl, binary
from finetune_cli.cluster import Cluster
from finetune_cli.errors import ExitCode, UserError
from finetune_cli.main import app
from manifests import SMALLEST
from manifests import manifest as changed
from statuses import Raw, serving, training
from typer.testing import CliRunner

Line = Callable[..., str]


@pytest.fixture
def line(
    control_plane: ControlPlane, namespace: str, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Line:
    """Type a line, and see what is printed; in the namespace is one FineTuneJob."""
    monkeypatch.setenv("PATH", str(binary("kubectl").parent))
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig(namespace=namespace)))
    monkeypatch.chdir(tmp_path)
    kubectl("apply", "-f-", document=SMALLEST)

    def typed(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return " ".join(result.output.split())

    return typed


def found(kubectl: Kubectl) -> Raw:
    return dict(json.loads(kubectl("get", "ftj", "recipes", "-o", "json")))


def tells(kubectl: Kubectl, status: Raw) -> None:
    patch = json.dumps({"status": status})
    kubectl("patch", "ftj", "recipes", "--subresource=status", "--type=merge", f"--patch={patch}")


def test_a_job_from_its_first_progress_to_its_end(line: Line, kubectl: Kubectl) -> None:
    assert "No operator has looked at it yet" in line("describe")
    tells(kubectl, training())
    assert "recipes Training 40/120" in line("list")
    with pytest.raises(UserError) as error:
        line("wait", "--timeout", "1s")
    assert error.value.code == ExitCode.TIMED_OUT
    with closing(Cluster().watch("recipes", None)) as seen:
        assert next(seen).status.phase == "Training"
        tells(kubectl, serving())
        assert next(seen).status.phase == "Serving"
    assert "Serving · revision bbbb0002" in line("wait", "recipes")


def test_what_a_verb_changes_stands_in_the_object(line: Line, kubectl: Kubectl) -> None:
    tells(kubectl, serving())
    for typed, suspended in (
        ("cancel recipes", True),
        ("resume recipes", False),
    ):
        line(*typed.split())
        assert found(kubectl)["spec"]["suspend"] is suspended
    with pytest.raises(UserError, match="aaaa0001 of recipes is not kept any more"):
        line("rollback", "recipes")
    kubectl("create", "configmap", "recipes-aaaa0001")
    line("rollback", "recipes")
    assert found(kubectl)["metadata"]["annotations"]["finetune.dev/promote"] == "aaaa0001"
    line("promote", "recipes", "--unpin")
    line("retry", "recipes")
    annotations = found(kubectl)["metadata"]["annotations"]
    assert "finetune.dev/promote" not in annotations
    assert annotations["finetune.dev/retry"]
    with pytest.raises(UserError, match="recipes has no pod of host"):
        line("logs", "recipes", "--stage", "host")


def test_how_a_job_trains_and_two_side_by_side(line: Line, kubectl: Kubectl) -> None:
    with pytest.raises(UserError, match=r"recipes has no plan yet: prepare makes it, once it has seen the rows\.$"):
        line("plan", "recipes")
    tells(kubectl, serving())
    assert "learningRate 2e-4 usual for lora" in line("plan", "recipes")
    kubectl("apply", "-f-", document=changed({"metadata.name": "cakes", "spec.training.epochs": 7}))
    told = line("compare", "recipes", "cakes")
    assert "training.epochs - 7" in told
    assert "tuned, token_f1 0.925 -" in told
    fields = json.loads(line("compare", "recipes", "cakes", "-o", "json"))["changed"]
    assert fields == {"training.epochs": [None, "7"]}


def test_what_only_a_cluster_refuses_is_told_in_its_words_and_what_it_takes_is_applied(
    line: Line, kubectl: Kubectl, namespace: str
) -> None:
    manifest = Path("job.yaml")
    manifest.write_text(json.dumps(changed({"spec.model.source": "file:///models/small"})))
    with pytest.raises(UserError, match="exists only for `finetune run`; in a cluster it must be hf://ORG/NAME"):
        line("apply", "-f", "job.yaml")
    manifest.write_text(json.dumps(changed({"spec.training.retries": 7})))
    assert line("apply", "-f", "job.yaml", "--no-wait").startswith(f"{namespace}/recipes is applied.")
    assert found(kubectl)["spec"]["training"]["retries"] == 7
    line("clean", "recipes", "--yes")
    assert "There is no FineTuneJob in this namespace" in line("list")
