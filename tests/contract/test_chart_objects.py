"""What the chart renders: a real API server takes each object, and the objects fit the operator and one another.

Server-side dry runs check more than schemas do: they default, validate and admit, and refuse unknown fields.
"""

import json
from collections.abc import Callable
from typing import Any

import chart
import pytest
import yaml
from chart import RELEASE, SYSTEM, Manifest
from control_plane import Kubectl
from finetune_operator.api.crd import DEFINITIONS, Definition
from finetune_operator.names import ENGINE_PORT, engine_labels
from paths import ROOT
from rendering import host, prepare, target, train

# Those of tests/chart-values.yaml.
WATCHED = ["kitchen", "bakery"]
PEER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
# Without the ServiceMonitor, the Prometheus operator's kind, of which the API server knows nothing.
EVERYTHING: dict[str, Any] = yaml.safe_load((ROOT / "tests" / "chart-values.yaml").read_text()) | {"metrics": {}}
LITTLE: dict[str, Any] = {
    "serviceAccount": {"create": False},
    "networkPolicy": {"enabled": False, "stagePods": {"enabled": True, "namespaces": ["kitchen"]}},
    "podDisruptionBudget": {"enabled": False},
}
VALUES = {"defaults": {}, "everything": EVERYTHING, "little": LITTLE}


@pytest.fixture(scope="module")
def namespaces(admin: Kubectl) -> None:
    """The release's namespace, which refuses pods below `restricted`, and the watched ones."""
    for name in (SYSTEM, *WATCHED):
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        admin("apply", "-f-", document=namespace)


def dry_run(admin: Kubectl, manifest: Manifest) -> Manifest:
    """What the API server would store; a field that it does not know is an error."""
    arguments = ("--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-o", "json")
    stored: Manifest = json.loads(admin("apply", *arguments, "-f-", document=manifest))
    return stored


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_a_real_api_server_takes_every_object(admin: Kubectl, values: dict[str, Any]) -> None:
    for manifest in chart.render(**values):
        assert dry_run(admin, manifest)["kind"] == manifest["kind"]


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_operators_pod_is_admitted_where_restricted_is_enforced(admin: Kubectl, values: dict[str, Any]) -> None:
    """Pod Security only warns about a Deployment; its pods are what it refuses."""
    template = chart.one(chart.render(**values), "Deployment")["spec"]["template"]
    metadata = template["metadata"] | {"name": "operator", "namespace": SYSTEM}
    dry_run(admin, template | {"apiVersion": "v1", "kind": "Pod", "metadata": metadata})


def test_the_operators_container_can_write_nothing_and_takes_little() -> None:
    spec = chart.one(chart.render(), "Deployment")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["resources"] == {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}}


def test_two_operators_of_which_a_drain_or_an_upgrade_leaves_one() -> None:
    manifests = chart.render()
    deployment, budget = chart.one(manifests, "Deployment"), chart.one(manifests, "PodDisruptionBudget")["spec"]
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }
    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
    (rule,) = affinity(manifests)["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert rule["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
    assert matches(rule["podAffinityTerm"]["labelSelector"], labels_of(deployment))
    assert chart.one(chart.render(replicas=1), "Deployment")["spec"]["replicas"] == 1


def test_an_affinity_is_added_to_the_charts_and_an_anti_affinity_takes_its_place() -> None:
    added = affinity(chart.render(affinity={"nodeAffinity": {}}))
    assert added == {"nodeAffinity": {}} | affinity(chart.render())
    assert affinity(chart.render(affinity={"podAntiAffinity": {}})) == {"podAntiAffinity": {}}


def affinity(manifests: list[Manifest]) -> Manifest:
    return dict(chart.one(manifests, "Deployment")["spec"]["template"]["spec"]["affinity"])


@pytest.mark.parametrize("found", DEFINITIONS, ids=lambda found: found.kind)
def test_a_crd_is_the_one_of_crds_and_survives_the_release(found: Definition) -> None:
    """A template, unlike a file of `crds/`, is upgraded with the release; the policy keeps it at an uninstall."""
    installed = chart.one(chart.render(), "CustomResourceDefinition", f"{found.plural}.finetune.dev")
    assert installed["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert installed == yaml.safe_load((ROOT / found.path).read_text())
    assert not [each for each in chart.render(crds={"install": False}) if each["kind"] == "CustomResourceDefinition"]


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a LabelSelector selects; expressions ask here whether there is a label, or is none."""
    wanted = {"Exists": True, "DoesNotExist": False}
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        (each["key"] in labels) == wanted[each["operator"]] for each in selector.get("matchExpressions", [])
    )


def labels_of(workload: Manifest) -> dict[str, str]:
    """Its pods' labels; a Job's pods get its name from the Job controller."""
    name = {"batch.kubernetes.io/job-name": workload["metadata"]["name"]} if workload["kind"] == "Job" else {}
    return {**workload["spec"]["template"]["metadata"]["labels"], **name}


def test_what_selects_the_operators_pod_selects_it_and_not_the_pod_of_helm_test() -> None:
    manifests = chart.render()
    labels = labels_of(chart.one(manifests, "Deployment"))
    other = chart.one(manifests, "Pod", f"{RELEASE}-test")["metadata"]["labels"]
    selectors = [
        {"matchLabels": chart.one(manifests, "Service")["spec"]["selector"]},
        chart.one(manifests, "PodDisruptionBudget")["spec"]["selector"],
        chart.one(manifests, "NetworkPolicy")["spec"]["podSelector"],
    ]
    assert all(matches(each, labels) and not matches(each, other) for each in selectors)


def test_a_service_monitor_reads_the_metrics_of_the_service() -> None:
    assert not [each for each in chart.render() if each["kind"] == "ServiceMonitor"]
    switch = {"enabled": True, "interval": "1m", "labels": {"release": "prometheus"}}
    manifests = chart.render(metrics={"serviceMonitor": switch})
    monitor, service = chart.one(manifests, "ServiceMonitor"), chart.one(manifests, "Service")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert matches(monitor["spec"]["selector"], service["metadata"]["labels"])
    assert monitor["spec"]["endpoints"] == [{"port": service["spec"]["ports"][0]["name"], "interval": "1m"}]


@pytest.mark.parametrize("port", [9090, 9191])
def test_the_metrics_answer_at_one_port_throughout(port: int) -> None:
    manifests = chart.render(metrics={"port": port}, networkPolicy={"metricsFrom": [PEER]})
    (container,) = chart.one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    (offered,) = chart.one(manifests, "Service")["spec"]["ports"]
    (admitted,) = chart.one(manifests, "NetworkPolicy")["spec"]["ingress"]
    assert (ports[offered["targetPort"]], offered["port"], admitted["ports"]) == (port, port, [{"port": port}])
    test_pod = chart.one(manifests, "Pod", f"{RELEASE}-test")
    assert f"http://{RELEASE}.{SYSTEM}.svc:{port}/metrics" in test_pod["spec"]["containers"][0]["args"][0]
    assert PEER in admitted["from"]
    assert any(matches(each.get("podSelector", {}), test_pod["metadata"]["labels"]) for each in admitted["from"])


def test_the_operator_may_reach_the_status_of_stages_and_of_engines_and_no_other_pod() -> None:
    egress = chart.one(chart.render(watchNamespaces=WATCHED), "NetworkPolicy")["spec"]["egress"]
    pods = [*map(labels_of, workloads()), engine_labels("chat")]
    told, loads = (each for each in egress if "to" in each)
    # What stages and the container beside an engine tell, and how busy engines are, a FineTuneJob's own included.
    for rule, port, selected in (
        (told, status_port(), [[True, True, False, False], [False, False, False, True]]),
        (loads, ENGINE_PORT, [[False, False, False, True], [False, False, True, False]]),
    ):
        assert [each["port"] for each in rule["ports"]] == [port]
        assert [[matches(to["podSelector"], labels) for labels in pods] for to in rule["to"]] == selected
        for to in rule["to"]:
            (watched,) = to["namespaceSelector"]["matchExpressions"]
            assert watched == {"key": "kubernetes.io/metadata.name", "operator": "In", "values": WATCHED}


def test_stage_pods_admit_the_operator_alone_in_each_watched_namespace() -> None:
    manifests = chart.render(watchNamespaces=WATCHED, networkPolicy={"stagePods": {"enabled": True}})
    policies = [each for each in manifests if each["metadata"]["name"] == f"{RELEASE}-stages"]
    assert [each["metadata"]["namespace"] for each in policies] == WATCHED
    for spec in (each["spec"] for each in policies):
        assert [matches(spec["podSelector"], labels_of(each)) for each in workloads()] == [True, True, False]
        assert spec["policyTypes"] == ["Ingress"]
        ((ingress,), (peer,)) = spec["ingress"], spec["ingress"][0]["from"]
        assert [port["port"] for port in ingress["ports"]] == [status_port()]
        assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": SYSTEM}}
        assert matches(peer["podSelector"], labels_of(chart.one(manifests, "Deployment")))


def test_pods_that_train_together_reach_one_another_and_nobody_else_reaches_them() -> None:
    manifests = chart.render(watchNamespaces=WATCHED, networkPolicy={"stagePods": {"enabled": True}})
    policies = [each for each in manifests if each["metadata"]["name"] == f"{RELEASE}-nodes"]
    assert [each["metadata"]["namespace"] for each in policies] == WATCHED
    one_of_several = labels_of(train(target())) | {"batch.kubernetes.io/job-completion-index": "1"}
    for spec in (each["spec"] for each in policies):
        (ingress,) = spec["ingress"]
        assert list(ingress) == ["from"]
        for selector in (spec["podSelector"], ingress["from"][0]["podSelector"]):
            assert matches(selector, one_of_several)
            assert not any(matches(selector, labels_of(each)) for each in workloads())


def workloads() -> list[Manifest]:
    """The prepare and train Jobs and the hosting Deployment of some FineTuneJob."""
    return [render(target()) for render in (prepare, train, host)]


def status_port() -> int:
    """Where stage pods tell their progress."""
    (port,) = train(target())["spec"]["template"]["spec"]["containers"][0]["ports"]
    return int(port["containerPort"])


VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")


@pytest.mark.parametrize(("role", "allowed"), [("view", VERBS[:3]), ("edit", VERBS)])
def test_the_clusters_own_roles_reach_finetunejobs(
    admin: Kubectl, kubectl_as: Callable[[str], Kubectl], namespace: str, role: str, allowed: tuple[str, ...]
) -> None:
    """The aggregation is the controller manager's work: here its outcome is bound."""
    roles = [each for each in chart.render() if each["kind"] == "ClusterRole"]
    aggregated = [
        each for each in roles if f"rbac.authorization.k8s.io/aggregate-to-{role}" in each["metadata"]["labels"]
    ]
    for each in aggregated:
        name = each["metadata"]["name"]
        admin("apply", "-f-", document=each)
        admin("create", "rolebinding", name, f"--clusterrole={name}", "--user=stranger", f"--namespace={namespace}")
    stranger = kubectl_as("stranger")
    may = [verb for verb in VERBS if stranger.run("auth", "can-i", verb, "finetunejobs.finetune.dev").returncode == 0]
    assert tuple(may) == allowed
    status = ("auth", "can-i", "patch", "finetunejobs.finetune.dev", "--subresource=status")
    assert stranger.run(*status).stdout == "no\n"
    scale = ("auth", "can-i", "patch", "finetunejobs.finetune.dev", "--subresource=scale")
    assert stranger.run(*scale).stdout == ("yes\n" if "patch" in allowed else "no\n")
    for each in aggregated:
        admin("delete", "clusterrole", each["metadata"]["name"])
