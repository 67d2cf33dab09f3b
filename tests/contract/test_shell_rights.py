"""What the operator may do: the chart's rules, the table of `cluster`, and the calls that an API server saw, agree."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import chart
import pytest
from control_plane import ControlPlane, Kubectl
from finetune_operator.shell.resources import FINALIZERS, LEASE, RESOURCES, SCALES, STATUSES, Resource
from loading import pod
from node import NOWHERE
from operator_process import OperatorProcess
from playing import NAME, Played
from rehearsal import MANIFEST

# (group, resource or resource/subresource, verb).
Right = tuple[str, str, str]

UNOWNED = [{"op": "remove", "path": "/metadata/ownerReferences"}]


def rights(rules: Iterable[dict[str, Any]]) -> set[Right]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def of_table() -> set[Right]:
    """What the operator does in the namespaces that it watches."""
    return of(*RESOURCES.values(), *STATUSES, *SCALES, *FINALIZERS)


def of(*used: Resource) -> set[Right]:
    return {(each.api_version.rpartition("/")[0], each.plural, verb) for each in used for verb in each.verbs}


def roles(kind: str, name: str = chart.RELEASE, **values: object) -> list[dict[str, Any]]:
    """The chart's roles for its own ServiceAccount, without those that it adds to the cluster's for users."""
    return [found for found in chart.render(**values) if found["kind"] == kind and found["metadata"]["name"] == name]


def test_the_chart_grants_what_the_code_names_and_no_more() -> None:
    (role,) = roles("ClusterRole")
    assert rights(role["rules"]) == of_table()


def test_with_a_list_of_namespaces_there_is_no_right_beyond_them() -> None:
    watched = ["kitchen", "bakery"]
    granted = roles("Role", watchNamespaces=watched)
    assert [found["metadata"]["namespace"] for found in granted] == watched
    assert all(rights(found["rules"]) == of_table() for found in granted)
    for kind in ("ClusterRole", "ClusterRoleBinding"):
        assert roles(kind, watchNamespaces=watched) == []


@pytest.mark.parametrize("watched", [[], ["kitchen", chart.SYSTEM]])
def test_in_the_releases_namespace_it_has_its_own_lease_and_no_other(watched: list[str]) -> None:
    (role,) = roles("Role", f"{chart.RELEASE}-lease", watchNamespaces=watched)
    assert role["metadata"]["namespace"] == chart.SYSTEM
    assert rights(role["rules"]) == of(LEASE)
    # The API server can't hold a right to create to a name.
    assert {name for rule in role["rules"] for name in rule.get("resourceNames", rule["verbs"])} == {
        chart.RELEASE,
        "create",
    }


def test_it_can_read_no_secret_and_start_no_pod() -> None:
    resources = {(resource, verb) for _, resource, verb in of_table()}
    assert not [right for right in resources if right[0] == "secrets" or right == ("pods", "create")]
    assert "*" not in {part for right in of_table() for part in right}


@pytest.fixture
def earlier_calls(control_plane: ControlPlane) -> int:
    """How many there were before the operator of this test started; asked for before it."""
    return sum(1 for _ in control_plane.calls("operator"))


@pytest.fixture
def whole_life(
    grant: Callable[..., None], launch: Callable[..., OperatorProcess], lease: dict[str, str], played: Played
) -> None:
    """Everything that a FineTuneJob can bring the operator to do."""
    grant()
    launch(**lease)
    train = {"source": "configmap://rows/train.jsonl"}
    model = {"source": "pvc://models/base"}
    rows = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rows"}, "data": {"train.jsonl": "{}"}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"}}
    size = {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}}}
    played.create(dataset={"train": train}, model=model)
    played.wait_reason("Accepted", "ObjectNotFound")
    # A Job of somebody's own stands in the way, and a volume can't grow before it is bound.
    foreign = played.owner("prepare")[1]
    played.kubectl("create", "job", foreign, "--image=x")
    played.kubectl("apply", "-f-", document=rows)
    played.kubectl("apply", "-f-", document=claim | {"spec": size})
    played.wait_reason("DataReady", "NameTaken")
    played.create(dataset={"train": train}, model=model, workspace={"size": "30Gi"})
    played.wait_reason("DataReady", "Refused")
    played.kubectl("delete", "job", foreign)
    played.create(dataset={"train": train}, model=model)
    played.start("prepare")
    played.wait_reason("DataReady", "Running")
    played.create(dataset={"train": train}, model=model, training=MANIFEST["training"] | {"retries": 5})
    played.wait("/".join(played.owner("prepare")), "jsonpath={.spec.backoffLimit}=5")
    played.create(dataset={"train": train}, model=model, suspend=True)
    played.wait_reason("DataReady", "Suspended")
    played.collect("/".join(played.owner("prepare")))
    played.create(dataset={"train": train}, model=model)
    played.serve()
    old = played.revision
    played.create(hosting={"revisionHistoryLimit": 0})
    played.wait_reason("DataReady", "Starting")
    played.serve()
    serve_an_engine(played)
    for kind in ("job", "deployment", "service", "persistentvolumeclaim", "configmap"):
        gone = "jsonpath={.metadata.deletionTimestamp}"
        name = f"{NAME}-{old}" + ("-train" if kind == "job" else "")
        if played.kubectl.run("get", kind, name).returncode == 0:
            played.wait(f"{kind}/{name}", gone)


def serve_an_engine(played: Played) -> None:
    """Everything that an Engine can bring it to do."""
    engine = {"apiVersion": "finetune.dev/v1alpha1", "kind": "Engine", "metadata": {"name": "chat"}}
    for length in (512, 1024):
        spec = {"model": {"source": "pvc://models/base"}, "contextLength": length, "lora": {}}
        played.kubectl("apply", "-f-", document=engine | {"spec": spec})
        path = "{.spec.template.spec.containers[0].args[5]}"
        played.wait("deployment/chat", "create")
        played.wait("deployment/chat", f"jsonpath={path}={length}")
    pod(played.kubectl, "chat-1", NOWHERE)
    played.wait("pod/chat-1", r"jsonpath={.metadata.annotations.finetune\.dev/adapters}")
    # What a backup restores has no owner, and is adopted.
    played.kubectl("patch", "deployment", "chat", "--type=json", f"--patch={json.dumps(UNOWNED)}")
    uid = played.kubectl("get", "engine", "chat", "-o", "jsonpath={.metadata.uid}")
    played.wait("deployment/chat", f"jsonpath={{.metadata.ownerReferences[0].uid}}={uid}")


def test_a_whole_life_asks_for_exactly_these_rights(
    control_plane: ControlPlane, namespace: str, earlier_calls: int, whole_life: None
) -> None:
    seen: set[Right] = set()
    for call in itertools.islice(control_plane.calls("operator"), earlier_calls, None):
        found = call.get("objectRef")
        if found is None or found.get("namespace", namespace) not in (namespace, chart.SYSTEM):
            continue
        assert call["annotations"]["authorization.k8s.io/decision"] == "allow", call
        resource = "/".join(filter(None, (found["resource"], found.get("subresource"))))
        seen.add((found.get("apiGroup", ""), resource, call["verb"]))
    # An apply that creates needs the right to create, and is logged as a patch; a blocking owner reference needs
    # finalizers, and is logged as nothing.
    unseen = {(group, resource, "create") for group, resource, verb in seen if verb == "patch"} - {
        ("finetune.dev", "finetunejobs/status", "create"),
        ("finetune.dev", "engines/status", "create"),
        ("", "pods", "create"),
    }
    # Of what this cluster does not have no more is asked than whether it does.
    absent = {(group, resource, "watch") for group, resource, _ in of(RESOURCES["Workload"])}
    unseen |= absent | {("finetune.dev", f"{plural}/finalizers", "update") for plural in ("finetunejobs", "engines")}
    # What falls asleep does so after a minute at least; test_shared has an Engine woken.
    unseen.add(("finetune.dev", "engines/scale", "patch"))
    assert seen | unseen == of_table() | of(LEASE)


def test_two_namespaces_by_roles_alone(
    grant: Callable[..., None],
    launch: Callable[..., OperatorProcess],
    namespaces: Iterator[tuple[str, Kubectl]],
    control_plane: ControlPlane,
    earlier_calls: int,
    lease: dict[str, str],
) -> None:
    (first, *_), (second, *_), (third, *_) = found = [next(namespaces) for _ in range(3)]
    grant(watchNamespaces=[first, second])
    operator = launch(namespaces=f"{first},{second}", **lease)
    watched, other, outside = (Played(kubectl) for _, kubectl in found)
    outside.create()
    for played in (watched, other):
        played.create()
        played.serve()
    assert outside.job()["status"]["observedGeneration"] == -1
    calls = itertools.islice(control_plane.calls("operator"), earlier_calls, None)
    asked = {call["objectRef"].get("namespace") for call in calls if "objectRef" in call}
    # None is discovery: whether the CustomResourceDefinition is there.
    assert asked - {None} == {first, second, chart.SYSTEM}
    assert third not in asked
    # It counts what it has told a moment after it was told.
    operator.eventually(lambda: operator.metric('finetune_jobs{phase="Serving"}') == 2)
