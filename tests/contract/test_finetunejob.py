"""The CRD in a real API server: what it refuses and says, what it fills in, and what kubectl shows of it."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from bad_manifests import BAD
from control_plane import PATIENCE, ControlPlane, Kubectl
from finetune_operator.api.load import parse_yaml
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from good_manifests import GOOD
from manifests import EMPTY, SMALLEST, Bad, manifest

CRD = "finetunejobs.finetune.dev"


@pytest.fixture(scope="module")
def established(admin: Kubectl) -> dict[str, Any]:
    """The CRD as the API server holds it."""
    return dict(json.loads(admin("get", "crd", CRD, "-o", "json")))


def test_the_crd_is_established_and_structural(established: dict[str, Any]) -> None:
    conditions = {each["type"]: each["status"] for each in established["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}


def tried(control_plane: ControlPlane, document: dict[str, Any], plural: str = "finetunejobs") -> dict[str, Any]:
    """The answer to creating it with kubectl's default, strict validation; nothing is kept."""
    path = f"/apis/finetune.dev/v1alpha1/namespaces/default/{plural}?dryRun=All&fieldValidation=Strict"
    return control_plane.request("POST", path, document)


@pytest.mark.usefixtures("established")
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_manifest_is_refused_by_field_and_sentence(bad: Bad, control_plane: ControlPlane) -> None:
    answer = tried(control_plane, bad.manifest())
    assert answer["kind"] == "Status", f"{bad.names} was accepted"
    # Some of the API server's errors write the key of a map in brackets.
    said = re.sub(r"(?<=\w)\[([^\[\]]*[^\[\]\d][^\[\]]*)\]", r".\1", answer["message"])
    assert bad.names in said
    assert bad.allowed in said
    assert bad.server in said


@pytest.mark.usefixtures("established")
@pytest.mark.parametrize("fields", GOOD.values(), ids=GOOD.keys())
def test_a_good_manifest_is_accepted(fields: dict[str, Any], control_plane: ControlPlane) -> None:
    answer = tried(control_plane, manifest(fields))
    assert answer["kind"] == "FineTuneJob", answer.get("message")


@pytest.mark.usefixtures("established")
def test_what_is_left_empty_is_as_good_as_left_out(control_plane: ControlPlane) -> None:
    left_empty, left_out = (
        FineTuneJobSpec.model_validate(tried(control_plane, manifest(fields))["spec"]) for fields in (EMPTY, {})
    )
    assert left_empty.model_dump(exclude_defaults=True) == left_out.model_dump(exclude_defaults=True)


def test_kubectl_shows_the_sentence(kubectl: Kubectl) -> None:
    refused = kubectl.run("apply", "-f", "-", document=manifest({"spec.hosting.replicas": 2}))
    assert refused.returncode == 1
    assert "spec.hosting.replicas" in refused.stderr
    assert "a ReadWriteOnce volume holds all replicas on one node" in refused.stderr


def test_what_was_left_out_is_filled_in(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", document=SMALLEST)
    spec = json.loads(kubectl("get", "ftj", "recipes", "-o", "json"))["spec"]
    assert spec["dataset"]["validation"] == spec["dataset"]["test"] == {"fraction": 0.1}
    assert spec["evaluation"] == {"enabled": True, "sampleSize": 200}
    assert spec["training"] == {
        "method": "sft",
        "adapter": {"type": "lora", "rank": 16, "dropout": 0, "useRslora": False, "targetModules": ["all-linear"]},
        "seed": 42,
        "keepCheckpoints": 1,
        "nodes": 1,
        "sharding": "auto",
        "retries": 3,
    }
    assert spec["hosting"] == {"enabled": True, "replicas": 1, "rollout": "surge", "revisionHistoryLimit": 1}
    assert spec["workspace"] == {"size": "20Gi", "accessModes": ["ReadWriteOnce"]}
    assert spec["suspend"] is False


def test_a_split_of_its_own_takes_no_fraction_from_the_default(kubectl: Kubectl) -> None:
    rows = {"source": "s3://bucket/validation.jsonl"}
    kubectl("apply", "-f", "-", document=manifest({"spec.dataset.validation": rows, "spec.dataset.test": rows}))
    dataset = json.loads(kubectl("get", "ftj", "recipes", "-o", "json"))["spec"]["dataset"]
    assert dataset["validation"] == dataset["test"] == rows


def test_who_has_no_role_sees_nothing(kubectl_as: Callable[[str], Kubectl]) -> None:
    refused = kubectl_as("stranger").run("get", "ftj")
    assert 'User "stranger" cannot list resource "finetunejobs"' in refused.stderr


STATUS: dict[str, Any] = {
    "observedGeneration": 1,
    "phase": "Serving",
    "progressSummary": "40/120",
    "revision": "0a1b2c3d",
    "servedRevision": "9f8e7d6c",
    "endpoint": {"url": "http://recipes.team.svc/v1", "model": "recipes"},
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Serving",
            "message": "recipes answers.",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ],
}


@pytest.fixture
def serving(kubectl: Kubectl) -> Kubectl:
    """kubectl in a namespace with a FineTuneJob whose status was applied as the operator does."""
    kubectl("apply", "-f", "-", document=SMALLEST)
    apply_status(kubectl, STATUS)
    return kubectl


def apply_status(kubectl: Kubectl, status: dict[str, Any], manager: str = "finetune-operator") -> None:
    document = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "recipes"}}
    flags = ("--server-side", "--subresource=status", f"--field-manager={manager}")
    kubectl("apply", *flags, "-f", "-", document={**document, "status": status})


def version(kubectl: Kubectl) -> str:
    return kubectl("get", "ftj", "recipes", "-o", "jsonpath={.metadata.resourceVersion}")


def test_a_status_is_applied_and_the_same_one_changes_nothing(serving: Kubectl) -> None:
    before = version(serving)
    apply_status(serving, STATUS)
    assert version(serving) == before
    apply_status(serving, {key: value for key, value in STATUS.items() if key != "servedRevision"})
    status = json.loads(serving("get", "ftj", "recipes", "-o", "json"))["status"]
    assert "servedRevision" not in status
    assert status["conditions"] == STATUS["conditions"]


def test_somebody_elses_condition_stays(serving: Kubectl) -> None:
    audited = {**STATUS["conditions"][0], "type": "Audited"}
    apply_status(serving, {"conditions": [audited]}, manager="auditor")
    apply_status(serving, STATUS)
    conditions = json.loads(serving("get", "ftj", "recipes", "-o", "json"))["status"]["conditions"]
    assert {each["type"] for each in conditions} == {"Ready", "Audited"}


def test_a_manifest_cannot_write_the_status(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", document={**SMALLEST, "status": STATUS})
    # Before the operator has seen it, so that kstatus (Flux) does not take it for current.
    assert json.loads(kubectl("get", "ftj", "recipes", "-o", "json"))["status"] == {"observedGeneration": -1}


def test_ready_can_be_waited_for(serving: Kubectl) -> None:
    assert "condition met" in serving("wait", "--for=condition=Ready", f"--timeout={PATIENCE}s", "ftj/recipes")


def columns(table: str) -> dict[str, str]:
    """The only row of a table, by heading; cells are apart by two blanks or more."""
    headings, row = table.strip().splitlines()
    starts = [headings.index(heading) for heading in headings.split()]
    ends = [*starts[1:], len(row) + 1]
    return {heading: row[start:end].strip() for heading, start, end in zip(headings.split(), starts, ends, strict=True)}


def test_get_shows_what_people_look_for(serving: Kubectl) -> None:
    shown = columns(serving("get", "ftj"))
    assert list(shown) == ["NAME", "READY", "PHASE", "PROGRESS", "METRIC", "BEST-BASELINE", "ENDPOINT", "AGE"]
    assert (shown["NAME"], shown["READY"], shown["PHASE"]) == ("recipes", "True", "Serving")
    assert shown["PROGRESS"] == "40/120"
    assert shown["ENDPOINT"] == "http://recipes.team.svc/v1"


def test_wide_shows_revisions_and_the_reason(serving: Kubectl) -> None:
    shown = columns(serving("get", "ftj", "-o", "wide"))
    assert (shown["REVISION"], shown["SERVED"], shown["MESSAGE"]) == ("0a1b2c3d", "9f8e7d6c", "recipes answers.")


def test_delete_all_deletes_no_model(serving: Kubectl) -> None:
    serving("delete", "all", "--all")
    assert "recipes" in serving("get", "ftj")


SHARED = manifest({"spec.workspace.accessModes": ["ReadWriteMany"]})


def test_kubectl_scales_the_serving_pods(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", document=SHARED)
    kubectl("scale", "ftj/recipes", "--replicas=2")
    assert kubectl("get", "ftj", "recipes", "-o", "jsonpath={.spec.hosting.replicas}") == "2"


@pytest.mark.parametrize(
    ("document", "replicas", "sentence"),
    [
        (SMALLEST, 2, "a ReadWriteOnce volume holds all replicas on one node"),
        (SHARED, 0, "should be greater than or equal to 1"),
        (SHARED, 1000, "should be less than or equal to 100"),
    ],
)
def test_scaling_obeys_the_manifests_rules(
    kubectl: Kubectl, document: dict[str, Any], replicas: int, sentence: str
) -> None:
    kubectl("apply", "-f", "-", document=document)
    refused = kubectl.run("scale", "ftj/recipes", f"--replicas={replicas}")
    assert refused.returncode == 1
    assert "spec.hosting.replicas" in refused.stderr
    assert sentence in refused.stderr


def test_an_autoscaler_sees_how_many_pods_there_are_and_which(kubectl: Kubectl, control_plane: ControlPlane) -> None:
    kubectl("apply", "-f", "-", document=SHARED)
    selector = "finetune.dev/job=recipes,finetune.dev/stage=host"
    apply_status(kubectl, {**STATUS, "replicas": 3, "selector": selector})
    namespace = kubectl("config", "view", "-o", "jsonpath={.contexts[0].context.namespace}")
    path = f"/apis/finetune.dev/v1alpha1/namespaces/{namespace}/finetunejobs/recipes/scale"
    scale = control_plane.request("GET", path)
    assert (scale["spec"], scale["status"]) == ({"replicas": 1}, {"replicas": 3, "selector": selector})


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ("finetunejob", "a fine-tuned model that is served."),
        ("finetunejob.spec.training.adapter.rank", "the values are those that vLLM can serve."),
        ("ftj.status.conditions.message", "What happened, to which object, and what to do."),
    ],
)
@pytest.mark.usefixtures("established")
def test_explain_says_what_a_field_is(field: str, sentence: str, admin: Kubectl) -> None:
    assert sentence in " ".join(admin("explain", field).split())


# Where YAML 1.1, YAML 1.2, PyYAML and Go's parsers disagree.
NUMBERS = "2e-4 2E5 1e3 2.0e-4 1.5e+3 12e03 .5 -.5 5. 1. 0.1 +1 -1 1_000 685.230_15e+03 00 08 010 0o17 0x1F 0b11"
WORDS = "yes Yes YES y on true no n off false ~ null Null NULL"
TEXTS = "1e 1:30 2024-01-01 2024-01-01T00:00:00Z 1.2.3 '08' \"1\" e5 0x _1 .e5"


def test_yaml_is_read_as_kubectl_reads_it(admin: Kubectl) -> None:
    scalars = dict(enumerate(f"{NUMBERS} {WORDS} {TEXTS}".split()))
    lines = "".join(f"  k{number}: {scalar}\n" for number, scalar in scalars.items())
    text = f"apiVersion: example.dev/v1\nkind: Anything\nmetadata: {{name: a}}\nspec:\n{lines}"
    theirs = json.loads(admin("label", "--local", "-f", "-", "-o", "json", "a=b", document=text))["spec"]
    ours = json.loads(json.dumps(parse_yaml(text)[0]["spec"]))
    read = {scalar: (ours[f"k{number}"], theirs[f"k{number}"]) for number, scalar in scalars.items()}
    assert {scalar: pair for scalar, pair in read.items() if repr(pair[0]) != repr(pair[1])} == {}
