"""Bad manifests, the part about pods: no object could be made of them, or what they ask for would be ignored."""

from typing import Any

from finetune_trainer.contract.schemes import CREDENTIAL_KEYS
from manifests import Bad, each

POD, HOST = "spec.training.pod", "spec.hosting.pod"
RESOURCES = "spec.training.resources"
OBJECT = "must be an object's name: lower-case letters, digits, '-' and '.'"
KEY = "a key must be NAME or DOMAIN/NAME"
LABEL = "must be a label's value: at most 63 letters, digits, '-', '_' and '.'"
IMAGE = "must be an image such as registry.example.com/team/image:1.0"
ABOVE = "must not exceed limits: lower the request, or raise the limit"
UNEQUAL = "of devices and huge pages must equal limits, since they are not shared: give the limit alone"
WHOLE = "a device such as nvidia.com/gpu is given out whole: ask for 1 or more, without a fraction"
KNOWN = "a resource must be cpu, memory, ephemeral-storage, hugepages-SIZE or a device's DOMAIN/NAME"
OURS = "is the operator's to set, or would undo what it relies on: remove it"
SOURCES = "belongs into the Secret of model.credentials or dataset.credentials: remove it here"
DEVICES = "follows from resources.limits"


def _resources(name: str, limits: dict[str, Any], requests: dict[str, Any], field: str, allowed: str) -> Bad:
    return Bad(name, {RESOURCES: {"limits": limits, "requests": requests}}, f"{RESOURCES}.{field}", allowed)


def _env(allowed: str, *names: str) -> list[Bad]:
    path = f"{POD}.env"
    return [
        Bad(f"the variable {name!r}", {path: [{"name": name, "value": "1"}]}, f"{path}[0].name", allowed)
        for name in names
    ]


def _toleration(name: str, toleration: dict[str, Any], field: str, allowed: str) -> Bad:
    return Bad(name, {f"{POD}.tolerations": [toleration]}, f"{POD}.tolerations[0].{field}", allowed)


def _affinity(name: str, affinity: Any, field: str, server: str, local: str) -> Bad:
    return Bad(name, {f"{HOST}.affinity": affinity}, f"{HOST}.affinity{field}", server=server, local=local)


PODS = [
    _resources("more memory than the limit", {"memory": "4Gi"}, {"memory": "4097Mi"}, "requests", ABOVE),
    _resources("more cores than the limit", {"cpu": 2}, {"cpu": "2001m"}, "requests", ABOVE),
    _resources("fewer accelerators than the limit", {"nvidia.com/gpu": 2}, {"nvidia.com/gpu": 1}, "requests", UNEQUAL),
    _resources("an accelerator without a limit", {"cpu": 1}, {"nvidia.com/gpu": 1}, "requests", UNEQUAL),
    _resources("an accelerator without limits", {}, {"nvidia.com/mig-1g.5gb": 1}, "requests", UNEQUAL),
    _resources(
        "huge pages that are shared",
        {"hugepages-2Mi": "4Mi", "memory": "1Gi"},
        {"hugepages-2Mi": "2Mi"},
        "requests",
        UNEQUAL,
    ),
    _resources(
        "huge pages alone",
        {"hugepages-2Mi": "4Mi"},
        {},
        "limits",
        "has huge pages, which need cpu or memory beside them: add memory",
    ),
    *(
        _resources(f"{count} of an accelerator", {"nvidia.com/gpu": count}, {}, "limits", WHOLE)
        for count in ("500m", "0.5", "1.0")
    ),
    *(
        _resources(f"a resource {name!r}", {name: 1}, {}, "limits", KNOWN)
        for name in (
            "gpu",
            "CPU",
            "nvidia.com/",
            "/gpu",
            "nvidia.com/gpu/0",
            "requests.nvidia.com/gpu",
            "hugepages-2",
            "",
        )
    ),
    *(
        _resources(
            f"huge pages of {size}",
            {"hugepages-2Mi": size, "memory": "1Gi"},
            {},
            "limits",
            "huge pages are given out whole: ask for a multiple of their size, such as hugepages-2Mi: 512Mi",
        )
        for size in ("3Mi", 0, "500m")
    ),
    *(
        _resources(
            f"memory of {memory}",
            {"memory": memory},
            {},
            "limits",
            "memory must be at least 1Mi, such as 16Gi: a number without a unit counts bytes",
        )
        for memory in (16, "128m")
    ),
    *each(
        f"{POD}.labels", KEY, {"cost center": "a"}, {"-team": "a"}, {"Team.Example/a": "b"}, {"a" * 64: "b"}, {"": "a"}
    ),
    *each(f"{POD}.labels", KEY, {"/a": "b"}, {"a/b/c": "d"}, {"a" * 254 + "/b": "c"}),
    *each(
        f"{POD}.labels",
        "are set by their controllers: remove them",
        {"finetune.dev/stage": "train"},
        {"finetune.dev/mine": "a"},
        {"app.kubernetes.io/managed-by": "me"},
        {"job-name": "a"},
        {"batch.kubernetes.io/controller-uid": "a"},
        {"pod-template-hash": "a"},
    ),
    *each(f"{POD}.labels.team", LABEL, "a b", "a/b", "-a", "a.", "ä"),
    Bad("a long label", {f"{POD}.labels.team": "a" * 64}, f"{POD}.labels.team", server="Too long", local="at most 63"),
    *each(f"{POD}.annotations", KEY, {"a note": "a"}, {"example.com/": "a"}),
    *each(
        f"{POD}.annotations",
        "finetune.dev/… is the operator's own domain: remove what is in it",
        {"finetune.dev/inside": "a"},
    ),
    *each(f"{POD}.nodeSelector", KEY, {"gpu type": "a"}, {"nvidia.com/gpu/product": "a"}),
    *each(f"{POD}.nodeSelector.zone", LABEL, "europe west", "a,b"),
    Bad("a number of nodes", {f"{POD}.nodeSelector.gpu": 1}, f"{POD}.nodeSelector.gpu", "string"),
    *each(f"{POD}.serviceAccountName", OBJECT, "", "Training", "train_er", "system:serviceaccount:team:training"),
    *each(f"{POD}.priorityClassName", OBJECT, "", "High Priority"),
    *(
        Bad(
            f"the pull secret {name!r}",
            {f"{POD}.imagePullSecrets": [{"name": name}]},
            f"{POD}.imagePullSecrets[0].name",
            OBJECT,
        )
        for name in ("", "Registry", "docker.io/team")
    ),
    Bad(
        "a pull secret twice",
        {f"{POD}.imagePullSecrets": [{"name": "a"}, {"name": "a"}]},
        f"{POD}.imagePullSecrets",
        server="Duplicate value",
        local="has the same name twice",
    ),
    *each(
        "spec.training.image",
        IMAGE,
        "",
        "Trainer:1",
        "trainer:",
        "trainer :1",
        "https://r.example.com/a",
        "a@sha256:12",
    ),
    *each("spec.hosting.image", IMAGE, "registry.example.com/", "vllm/vllm-openai:v0.32.0 ", "a:b:c", "a//b"),
    Bad(
        "an environment variable without a value",
        {f"{POD}.env": [{"name": "A"}]},
        f"{POD}.env[0]",
        "needs either value or valueFrom, and not both",
    ),
    Bad(
        "an environment variable twice",
        {f"{POD}.env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
        f"{POD}.env",
        server="Duplicate value",
        local="has the same name twice",
    ),
    *_env("must be a variable's name: letters, digits, '-', '_' and '.'", "", "1ST", "MY VAR", "A=B", "..", "ÄB"),
    *_env(SOURCES, *CREDENTIAL_KEYS),
    *_env(SOURCES, "HUGGING_FACE_HUB_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "GOOGLE_APPLICATION_CREDENTIALS"),
    *_env("belongs into the Secret of the judge's or a baseline's credentials: remove it here", "OPENAI_API_KEY"),
    *_env(
        "belongs into the Secret of training.tracking.credentials: remove it here",
        "MLFLOW_TRACKING_TOKEN",
        "MLFLOW_TRACKING_PASSWORD",
        "TRACKIO_WRITE_TOKEN",
        "WANDB_API_KEY",
    ),
    *_env("would shut out evaluation and the engine's own probes: remove it", "VLLM_API_KEY"),
    *_env(DEVICES, "NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "RANK", "WORLD_SIZE", "MASTER_ADDR"),
    *_env(OURS, "FINETUNE_MODEL_HF_TOKEN", "HOME", "USER", "PATH", "PYTHONPATH", "LD_PRELOAD", "HF_HUB_OFFLINE"),
    *_env(OURS, "TRANSFORMERS_OFFLINE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_SERVER_DEV_MODE"),
    *(
        Bad(
            f"the {field} {value!r} of a variable's Secret",
            {f"{POD}.env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "wandb", "key": "a", field: value}}}]},
            f"{POD}.env[0].valueFrom.secretKeyRef.{field}",
            allowed,
        )
        for field, value, allowed in (
            ("name", "W&B", OBJECT),
            ("key", "api key", "must be a Secret's key: letters, digits, '-', '_' and '.'"),
            ("key", "", "must be a Secret's key"),
        )
    ),
    _toleration("a toleration of nothing", {}, "key", "is required, but for operator Exists"),
    _toleration(
        "a value without a key", {"value": "a", "effect": "NoSchedule"}, "key", "is required, but for operator Exists"
    ),
    _toleration("a taint's key with a blank", {"key": "reserved for", "operator": "Exists"}, "key", KEY),
    _toleration(
        "any value, and one",
        {"key": "a", "operator": "Exists", "value": "b"},
        "value",
        "goes with operator Equal only: remove it, or choose Equal",
    ),
    _toleration("a taint's value with a blank", {"key": "a", "value": "b c"}, "value", LABEL),
    _toleration(
        "seconds of a taint that evicts nobody",
        {"key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 60},
        "tolerationSeconds",
        "goes with effect NoExecute only: remove it, or choose that effect",
    ),
    _affinity("affinity as a list", [], "", "must be of type object", "must be an object (it is [])"),
    _affinity(
        "podAffinity as a list", {"podAffinity": []}, ".podAffinity", "must be of type object", "must be an object"
    ),
    _affinity(
        "nodeAffinity as text", {"nodeAffinity": "gpu"}, ".nodeAffinity", "must be of type object", "must be an object"
    ),
    _affinity("affinity of the future", {"gpuAffinity": {}}, ".gpuAffinity", "unknown field", "is not a field"),
    _affinity(
        "a term that is no list",
        {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": {}}},
        ".podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution",
        "must be of type array",
        "must be a list",
    ),
    _affinity(
        "a term that is nothing",
        {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [None]}},
        ".podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]",
        "must be of type object",
        "must be an object (it is null)",
    ),
]
