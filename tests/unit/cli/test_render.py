"""`finetune render`: the objects that the operator would create for a new FineTuneJob."""

import json
from typing import Any

import pytest
import yaml
from finetune_cli.errors import UserError
from finetune_cli.render import UNKNOWN_UID, objects, text
from finetune_operator import names
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.settings import Settings
from finetune_trainer.contract.config import RunConfig


def spec(**sections: Any) -> FineTuneJobSpec:
    smallest = {"model": {"source": "hf://org/model"}, "dataset": {"train": {"source": "s3://bucket/train.jsonl"}}}
    return FineTuneJobSpec.model_validate(smallest | sections)


def rendered(**sections: Any) -> list[dict[str, Any]]:
    wanted = spec(**sections)
    return list(yaml.safe_load_all(text(objects("recipes", "team", wanted, Settings()), wanted)))


def test_every_object_of_a_revision_is_there() -> None:
    found = rendered()
    revision = found[0]["metadata"]["labels"]["finetune.dev/revision"]
    assert [(made["kind"], made["metadata"]["name"]) for made in found] == [
        ("PersistentVolumeClaim", f"recipes-{revision}"),
        ("ConfigMap", f"recipes-{revision}"),
        ("Job", f"recipes-{revision}-prepare"),
        ("Job", f"recipes-{revision}-train"),
        ("Deployment", f"recipes-{revision}"),
        ("Service", f"recipes-{revision}"),
        ("Job", f"recipes-{revision}-evaluate"),
        ("Service", "recipes"),
    ]
    assert {made["metadata"]["namespace"] for made in found} == {"team"}


def test_on_a_shared_engine_it_asks_that_for_its_adapter() -> None:
    shared = {"hosting": {"engine": {"name": "chat"}}, "output": {"destination": "s3://models/recipes"}}
    found = {(made["kind"], made["metadata"]["name"]): made for made in rendered(**shared)}
    revision = names.revision_of(spec(**shared))
    assert json.loads(found["ConfigMap", f"recipes-{revision}-on-chat"]["data"]["adapter.json"]) == {
        "name": f"recipes-{revision}",
        "uri": f"s3://models/recipes/{revision}",
        "digest": "sha256:0000",
    }
    assert found["Service", "recipes"]["spec"]["selector"] == {"finetune.dev/engine": "chat"}
    assert "Deployment" not in {kind for kind, _ in found}
    (container,) = found["Job", f"recipes-{revision}-evaluate"]["spec"]["template"]["spec"]["containers"]
    assert "http://chat.team.svc/v1" in container["args"]
    told = text(objects("recipes", "team", spec(**shared), Settings()), spec(**shared))
    assert "the key that Engine chat names as its apiKey" in told
    assert "--max-model-len" not in told


def test_without_hosting_nothing_serves() -> None:
    made = [(each["kind"], each["metadata"]["name"]) for each in rendered(hosting={"enabled": False})]
    assert ("Service", "recipes") not in made
    kinds = {each["kind"] for each in rendered(hosting={"enabled": False}, evaluation={"enabled": False})}
    assert kinds == {"PersistentVolumeClaim", "ConfigMap", "Job"}


def test_the_run_config_survives_the_yaml() -> None:
    config_map = rendered(dataset={"train": {"source": "s3://b/t"}, "systemPrompt": "Über:\n  'all'"})[1]
    config = RunConfig.model_validate_json(config_map["data"]["run.json"])
    assert config.dataset.system_prompt == "Über:\n  'all'"


def test_what_only_the_cluster_knows_is_marked() -> None:
    comments = [
        line for line in text(objects("recipes", "team", spec(), Settings()), spec()).splitlines() if line[:1] == "#"
    ]
    assert UNKNOWN_UID in comments[0]
    assert "2048 stands in" in comments[1]
    told = spec(hosting={"contextLength": 512})
    assert "2048" not in text(objects("recipes", "team", told, Settings()), told)


def test_a_file_is_refused_as_the_cluster_would() -> None:
    with pytest.raises(UserError) as failure:
        objects("recipes", "team", spec(model={"source": "file://model"}), Settings())
    assert failure.value.message == (
        "model.source: file://model exists only for `finetune run`; in a cluster use hf://, s3://, gs://, abfs://, "
        "oci:// or pvc:// (for a dataset also configmap://)."
    )


def test_the_base_model_beside_a_full_one_is_shown_where_it_is_asked() -> None:
    found = [(made["kind"], made["metadata"]["name"]) for made in rendered(training={"adapter": {"type": "none"}})]
    revision = found[0][1].removeprefix("recipes-")
    base = f"recipes-{revision}-base"
    assert found[6:9] == [("Deployment", base), ("Service", base), ("Job", f"recipes-{revision}-evaluate")]


def test_a_merged_model_has_its_job_and_is_what_is_served() -> None:
    found = {(made["kind"], made["metadata"]["name"]): made for made in rendered(hosting={"adapter": "merged"})}
    name = f"recipes-{names.revision_of(spec())}"
    assert ("Job", f"{name}-merge") in found
    (engine,) = found["Deployment", name]["spec"]["template"]["spec"]["containers"]
    assert "/workspace/merged" in engine["args"]
    assert ("Deployment", f"{name}-base") in found


def test_a_workspace_in_a_bucket_is_no_volume() -> None:
    made = rendered(workspace={"bucket": "s3://work/finetune"})
    assert "PersistentVolumeClaim" not in {each["kind"] for each in made}
    (train,) = [each for each in made if each["metadata"]["name"].endswith("-train")]
    (container,) = train["spec"]["template"]["spec"]["containers"]
    assert f"/{UNKNOWN_UID}/" in container["args"][container["args"].index("--bucket") + 1]
