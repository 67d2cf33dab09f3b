"""The hosting Deployment and the Services: what is served under which name, when it is ready, and how it stops."""

import pytest
from finetune_operator.finetunejob.desired import hosting
from finetune_operator.finetunejob.desired.run_config import run_config
from finetune_operator.finetunejob.seat import Seat
from finetune_operator.finetunejob.stages import wanted
from finetune_operator.names import BASE
from rendering import GPUS, environment, host, main, mounts, target


def options(found, **kwargs):
    """The engine's arguments as a mapping; a flag without a value maps to None."""
    arguments = main(host(found, **kwargs))["args"]
    following = [*arguments[1:], None]
    return {
        name: None if value is None or value.startswith("--") else value
        for name, value in zip(arguments, following, strict=True)
        if name.startswith("--")
    }


def of_type(adapter):
    return target(training={"adapter": {"type": adapter}})


def test_a_lora_adapter_and_its_base_model_both_answer():
    served = options(target(training={"adapter": {"rank": 64}}), context_length=2048)
    assert served["--model"] == "/workspace/model"
    assert served["--served-model-name"] == "recipes-base"
    assert served["--lora-modules"] == "recipes=/workspace/artifact"
    assert served["--max-lora-rank"] == "64"
    assert served["--max-model-len"] == "2048"
    assert "--enable-lora" in served


@pytest.mark.parametrize(("adapter", "path"), [("none", "/workspace/artifact"), ("dora", "/workspace/artifact/merged")])
def test_a_full_model_is_served_under_the_jobs_name(adapter, path):
    served = options(of_type(adapter))
    assert served["--model"] == path
    assert served["--served-model-name"] == "recipes"
    assert not any("lora" in option for option in served)


@pytest.mark.parametrize(
    ("adapter", "path"),
    [("none", "/workspace/artifact"), ("lora", "/workspace/artifact/merged"), ("dora", "/workspace/artifact/merged")],
)
def test_a_reward_model_is_served_whole_and_has_started_once_it_rates(adapter, path):
    found = target(training={"method": "reward", "adapter": {"type": adapter}})
    served = options(found, context_length=2048)
    assert (served["--model"], served["--served-model-name"]) == (path, "recipes")
    assert served["--runner"] == "pooling"
    assert served["--max-model-len"] == "2048"
    assert not any("lora" in option for option in served)
    assert main(host(found))["startupProbe"]["exec"]["command"][2:] == ["recipes", "8000", "/classify"]


@pytest.mark.parametrize("hosting", [{}, {"adapter": "merged"}])
def test_an_adapter_that_brings_whole_modules_is_served_as_train_merged_it(hosting):
    found = target(training={"adapter": {"modulesToSave": ["embed_tokens"]}}, hosting=hosting)
    served = options(found)
    assert (served["--model"], served["--served-model-name"]) == ("/workspace/artifact/merged", "recipes")
    assert not any("lora" in option for option in served)
    # There is nothing left to merge.
    assert "merge" not in [stage.name for stage in wanted(found.spec)]


@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_the_engine_tells_what_of_a_prompt_stood_in_its_prefix_cache(adapter):
    assert "--enable-prompt-tokens-details" in main(host(of_type(adapter)))["args"]


def test_the_model_is_the_run_configs_and_not_the_manifests():
    """A revision that serves goes on serving what it is while the manifest already asks for another."""
    old, new = of_type("none"), of_type("lora")
    manifest = hosting.deployment(new, hosting.pod_template(new, run_config(old.name, old.revision, old.spec), 512), 1)
    assert "--enable-lora" not in main(manifest)["args"]


def test_a_models_own_code_runs_only_when_the_manifest_says_so():
    trusting = target(model={"source": "hf://org/model", "trustRemoteCode": True})
    assert "--trust-remote-code" in options(trusting)
    assert "--trust-remote-code" not in options(target())


@pytest.mark.parametrize("resource", ["nvidia.com/gpu", "amd.com/gpu", "habana.ai/gaudi", "nvidia.com/mig-1g.10gb"])
def test_an_accelerator_selects_the_gpu_image(resource):
    container = main(host(target(hosting={"resources": {"limits": {resource: 1}}})))
    assert container["image"] == "vllm-gpu:1"
    assert "--distributed-executor-backend" not in container["args"]
    assert "VLLM_CPU" not in str(container["env"])


def test_without_an_accelerator_the_cpu_image_and_its_settings_are_used():
    found = target(hosting={"resources": {"limits": {"memory": "8Gi"}}})
    assert main(host(found))["image"] == "vllm-cpu:1"
    assert options(found)["--distributed-executor-backend"] == "uni"
    # The image has no compiler's headers.
    assert "--enforce-eager" in main(host(found))["args"]
    assert environment(host(found))["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert "--tensor-parallel-size" not in options(found)


def test_the_manifests_image_is_used():
    assert main(host(target(hosting={"image": "mine:2", "resources": GPUS})))["image"] == "mine:2"


def test_a_model_is_spread_over_the_gpus_of_its_pod():
    assert options(target(hosting={"resources": {"limits": {"nvidia.com/gpu": "4"}}}))["--tensor-parallel-size"] == "4"


def test_a_pod_is_started_once_it_answers_a_completion_as_the_served_model():
    container = main(host(target()))
    assert container["startupProbe"]["exec"]["command"] == [
        "python3",
        "/etc/finetune/finetune_answers.py",
        "recipes",
        "8000",
        "/v1/completions",
    ]
    assert container["readinessProbe"]["httpGet"] == {"path": "/health", "port": "http"}


def test_a_large_model_has_an_hour_to_load_and_the_rollout_waits_for_it():
    deployment = host(target())
    startup = main(deployment)["startupProbe"]
    seconds = startup["periodSeconds"] * startup["failureThreshold"]
    assert seconds >= 3600
    assert deployment["spec"]["progressDeadlineSeconds"] > seconds


def test_on_cpus_one_that_computes_for_a_minute_keeps_its_clients_and_one_that_says_it_is_dead_loses_them_at_once():
    container = main(host(target()))
    ready, alive = container["readinessProbe"], container["livenessProbe"]
    assert ready["timeoutSeconds"] * ready["failureThreshold"] > 60
    assert alive["timeoutSeconds"] * alive["failureThreshold"] > 60
    assert ready["periodSeconds"] * ready["failureThreshold"] <= 15


def test_on_an_accelerator_one_that_hangs_loses_its_clients_soon():
    ready = main(host(target(hosting={"resources": GPUS})))["readinessProbe"]
    assert max(ready["timeoutSeconds"], ready["periodSeconds"]) * ready["failureThreshold"] <= 15


def test_requests_under_way_finish_before_the_pod_is_killed():
    found = target()
    pod = host(found)["spec"]["template"]["spec"]
    *_, program, seconds = main(host(found))["lifecycle"]["preStop"]["exec"]["command"]
    withdrawal, drain = int(seconds), int(options(found)["--shutdown-timeout"])
    assert program == "/etc/finetune/finetune_drain.py"
    assert withdrawal > 5, "uvicorn closes an idle connection after 5 seconds"
    assert drain > 0
    assert pod["terminationGracePeriodSeconds"] > withdrawal + drain


def test_the_programs_that_the_pod_runs_travel_with_it():
    found = target(hosting={"pod": {"annotations": {"note": "mine"}}})
    annotations = host(found)["spec"]["template"]["metadata"]["annotations"]
    (volume,) = [source for path, source in mounts(host(found)).items() if path == "/etc/finetune"]
    carried = {
        item["path"]: annotations[item["fieldRef"]["fieldPath"].split("'")[1]]
        for item in volume["downwardAPI"]["items"]
    }
    middleware, _, name = options(found)["--middleware"].partition(".")
    assert f"class {name}" in carried[f"{middleware}.py"]
    assert environment(host(found))["PYTHONPATH"] == "/etc/finetune"
    assert "finetune_answers.py" in carried
    assert all("import finetune" not in source and "from finetune" not in source for source in carried.values())
    assert annotations["note"] == "mine"


def test_the_old_pod_serves_until_the_new_one_does():
    strategy = host(target())["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def test_with_recreate_the_old_pod_gives_up_its_accelerators_first():
    assert host(target(hosting={"rollout": "recreate"}))["spec"]["strategy"] == {"type": "Recreate"}


def test_the_engine_reads_the_workspace_and_writes_nothing_there():
    (mount,) = [found for found in main(host(target()))["volumeMounts"] if found["mountPath"] == "/workspace"]
    assert mount["readOnly"] is True


def test_hosting_gets_no_credential_and_tells_nobody():
    secret = {"secretRef": {"name": "hub"}}
    found = target(
        model={"source": "hf://org/model", "credentials": secret},
        dataset={"train": {"source": "s3://b/k"}, "credentials": secret},
    )
    assert "secret" not in str(host(found)).lower()
    assert environment(host(found))["HF_HUB_OFFLINE"] == "1"
    assert environment(host(found))["VLLM_NO_USAGE_STATS"] == "1"


def test_adapters_cannot_be_loaded_by_clients():
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in environment(host(target()))


def test_a_model_on_the_users_claim_is_served_from_there():
    found = target(model={"source": "pvc://models/llama/8b"})
    assert options(found)["--model"] == "/mnt/claims/models/llama/8b"
    volume = mounts(host(found))["/mnt/claims/models"]
    assert volume["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}


def test_the_users_rows_are_not_mounted_for_serving():
    found = target(dataset={"train": {"source": "pvc://rows/train.jsonl"}})
    assert not any(path.startswith("/mnt") for path in mounts(host(found)))


def selects(service, deployment):
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    return service["spec"]["selector"].items() <= labels.items()


def test_a_candidate_service_reaches_its_revision_and_no_stage_pod():
    found, other = target(), target(training={"seed": 7})
    service = hosting.candidate_service(found)
    assert selects(service, host(found))
    assert not selects(service, host(other))
    assert service["spec"]["selector"]["finetune.dev/stage"] == "host"


def test_the_stable_service_answers_with_the_promoted_revision():
    old, new = target(), target(training={"seed": 7})
    service = hosting.stable_service(new, Seat(old.revision))
    assert service["metadata"]["name"] == "recipes"
    assert selects(service, host(old))
    assert not selects(service, host(new))


def test_a_service_is_asked_on_port_80_and_reaches_the_engine():
    (port,) = hosting.stable_service(target(), Seat("0" * 8))["spec"]["ports"]
    (opened,) = main(host(target()))["ports"]
    assert (port["port"], port["name"], port["targetPort"]) == (80, "http", opened["name"])
    assert options(target())["--port"] == str(opened["containerPort"])


def test_replicas_are_the_deployments():
    assert host(target(), replicas=0)["spec"]["replicas"] == 0


def test_the_base_model_has_an_engine_of_its_own_where_it_needs_one():
    found = of_type("dora")
    served = options(found, stage=BASE)
    assert served["--model"] == "/workspace/model"
    assert served["--served-model-name"] == "recipes-base"
    assert not any("lora" in option for option in served)
    assert main(host(found, stage=BASE))["startupProbe"]["exec"]["command"][2] == "recipes-base"


def test_the_base_models_engine_is_the_candidates_in_every_other_way():
    """What is compared is the model, and neither the machine nor how it is told to answer."""
    found = target(training={"adapter": {"type": "dora"}}, hosting={"resources": GPUS, "image": "mine:1"})
    ours, theirs = main(host(found)), main(host(found, stage=BASE))
    told = {"args", "startupProbe"}
    assert {key: ours[key] for key in ours.keys() - told} == {key: theirs[key] for key in theirs.keys() - told}
    own = {"--model", "--served-model-name"}
    same = [
        {name: value for name, value in options(found, stage=stage).items() if name not in own}
        for stage in (hosting.HOST, BASE)
    ]
    assert same[0] == same[1]


def test_neither_service_reaches_the_others_pods():
    found = of_type("none")
    candidate, base = host(found), host(found, stage=BASE)
    assert selects(hosting.base_service(found), base)
    assert not selects(hosting.base_service(found), candidate)
    assert not selects(hosting.candidate_service(found), base)
    assert not selects(hosting.stable_service(found, Seat(found.revision)), base)
    assert hosting.base_service(found)["metadata"]["name"] in hosting.base_url(found)


def test_a_base_model_that_is_changed_needs_no_accelerator_more():
    assert host(of_type("dora"), stage=BASE)["spec"]["strategy"] == {"type": "Recreate"}
