"""What the chart takes as values, what it refuses and in which words, and what the values become."""

import json
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import chart
import pytest
import yaml
from finetune_operator.settings import PREFIX, Settings, variable

DIGEST = "sha256:" + "0123456789abcdef" * 4


def operator_container(**values: Any) -> dict[str, Any]:
    pod = chart.one(chart.render(**values), "Deployment")["spec"]["template"]["spec"]
    (found,) = pod["containers"]
    return dict(found)


def settings(**values: Any) -> Settings:
    """The settings that the operator reads from the environment that it is given."""
    return Settings.from_environment(
        {each["name"]: each.get("value", "") for each in operator_container(**values)["env"]}
    )


def test_every_setting_of_the_operator_is_a_value_of_the_chart_and_nothing_else_is_set() -> None:
    given = {each["name"] for each in operator_container()["env"] if each["name"].startswith(PREFIX)}
    assert given == {variable(name) for name in Settings.__dataclass_fields__}


def test_what_the_chart_sets_by_default_is_the_operators_default() -> None:
    """But for the log, which a cluster's collector reads and not a person."""
    assert settings(logFormat="text") == Settings()
    assert settings().log_format == "json"


def test_the_values_reach_the_operator() -> None:
    found = settings(
        images={
            "trainer": {"repository": "registry/trainer", "tag": "1"},
            "hosting": {"digest": DIGEST},
            "hostingCpu": {"tag": "2"},
            "pullPolicy": "Always",
        },
        watchNamespaces=["kitchen", "bakery"],
        metrics={"port": 9191},
        health={"port": 8181},
        progressSeconds=2.5,
        prices={"currency": "EUR", "acceleratorHour": 2.5, "millionPromptTokens": 0.15, "millionCachedTokens": 0.05},
    )
    assert found == Settings(
        trainer_image="registry/trainer:1",
        hosting_image=f"vllm/vllm-openai@{DIGEST}",
        hosting_cpu_image="finetune.dev/vllm-cpu:2",
        image_pull_policy="Always",
        namespaces=("kitchen", "bakery"),
        metrics_port=9191,
        health_port=8181,
        progress_seconds=2.5,
        price_currency="EUR",
        price_accelerator_hour=2.5,
        price_million_prompt_tokens=0.15,
        price_million_cached_tokens=0.05,
        log_format="json",
    )


def test_each_release_has_a_lease_of_its_own_in_its_own_namespace() -> None:
    env = {each["name"]: each for each in operator_container()["env"]}
    assert env[variable("lease_namespace")]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}
    (role,) = [each for each in chart.render() if each["kind"] == "Role"]
    named = {name for rule in role["rules"] for name in rule.get("resourceNames", [])}
    assert named == {env[variable("lease_name")]["value"]}


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, f"finetune.dev/operator:{version('finetune-operator')}"),
        ({"tag": "dev"}, "finetune.dev/operator:dev"),
        ({"repository": "registry:5000/op", "digest": DIGEST}, f"registry:5000/op@{DIGEST}"),
        ({"tag": "dev", "digest": DIGEST}, f"finetune.dev/operator@{DIGEST}"),
    ],
)
def test_an_image_is_named_by_digest_else_by_tag_else_by_the_charts_version(
    image: dict[str, str], reference: str
) -> None:
    assert operator_container(image=image)["image"] == reference
    test_pod = chart.one(chart.render(image=image), "Pod", "finetune-operator-test")
    assert test_pod["spec"]["containers"][0]["image"] == reference


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"replicas": 0}, "replicas"),
    ({"replicaCount": 2}, "replicaCount"),
    ({"image": {"name": "x"}}, "image"),
    ({"image": {"digest": "sha256:abc"}}, "image/digest"),
    ({"image": {"tag": "not a tag"}}, "image/tag"),
    ({"images": {"trainer": {"repository": ""}}}, "images/trainer/repository"),
    ({"images": {"hosting": {"pullPolicy": "Always"}}}, "images/hosting"),
    ({"images": {"pullPolicy": "Sometimes"}}, "images/pullPolicy"),
    ({"watchNamespaces": "kitchen"}, "watchNamespaces"),
    ({"watchNamespaces": ["Kitchen"]}, "watchNamespaces/0"),
    ({"watchNamespaces": ["kitchen", "kitchen"]}, "watchNamespaces"),
    ({"metrics": {"port": 0}}, "metrics/port"),
    ({"metrics": {"serviceMonitor": {"interval": "often"}}}, "metrics/serviceMonitor/interval"),
    ({"progressSeconds": 0}, "progressSeconds"),
    ({"logFormat": "xml"}, "logFormat"),
    ({"podLabels": {"a": 1}}, "podLabels/a"),
    ({"networkPolicy": {"apiServerPorts": []}}, "networkPolicy/apiServerPorts"),
    ({"serviceAccount": {"create": "yes"}}, "serviceAccount/create"),
]


@pytest.mark.parametrize(("values", "where"), REFUSED, ids=[f"{where} {values}" for values, where in REFUSED])
def test_a_value_that_cannot_be_is_refused_where_it_stands(values: dict[str, Any], where: str) -> None:
    said = chart.refusal(**values)
    assert where.replace("/", ".") in said.replace("/", ".")


def test_a_policy_for_stage_pods_asks_for_namespaces() -> None:
    said = chart.refusal(networkPolicy={"stagePods": {"enabled": True}})
    assert "list them in networkPolicy.stagePods.namespaces or watchNamespaces" in said


def described(schema: dict[str, Any], definitions: dict[str, Any], path: str = "") -> Iterator[tuple[str, bool]]:
    """Each path of the schema and whether it says what the value is."""
    schema = definitions.get(schema.get("$ref", "").rpartition("/")[2], {}) | schema
    if path:
        yield path, "description" in schema
    for name, below in schema.get("properties", {}).items():
        yield from described(below, definitions, f"{path}.{name}".lstrip("."))


def paths(values: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, value in values.items():
        here = f"{path}.{name}".lstrip(".")
        yield here
        if isinstance(value, dict):
            yield from paths(value, here)


def test_every_value_is_described_and_has_a_default() -> None:
    schema = json.loads((chart.CHART / "values.schema.json").read_text())
    found = dict(described(schema, schema["definitions"]))
    assert [path for path, says in found.items() if not says] == []
    defaults = set(paths(yaml.safe_load((chart.CHART / "values.yaml").read_text())))
    # `global` is Helm's own; a default that the schema doesn't have is refused by Helm, in every other test.
    assert set(found) - {"global"} <= defaults
