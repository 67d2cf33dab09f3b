"""Manifests that the API server and the local backend must accept, however odd they look."""

from typing import Any

from bad_manifests import ADAPTER, EVALUATION, LIMITS, MODEL, REWARD, SWEEP, TEST, TRAIN, VALIDATION
from manifests import LONGEST

# The longest domain.
FAR = ".".join(["a" * 63] * 4)[:253]
GOOD: dict[str, dict[str, Any]] = {
    "the smallest": {},
    "a revision": {"spec.model.revision": "v1.0"},
    "a bucket's root": {MODEL: "s3://models"},
    "a registry's repository": {
        MODEL: "oci://registry.example.com:5000/models/tiny@sha256:" + 64 * "0",
        "spec.model.credentials": {"secretRef": {"name": "registry"}},
        "spec.output.destination": "oci://ghcr.io/acme/recipes",
    },
    "a repository of the hub": {"spec.output.destination": "hf://acme/Recipes-1.0"},
    "an artifact on a claim": {"spec.output.destination": "pvc://models/recipes"},
    "Google's and Azure's buckets": {
        MODEL: "gs://my_models.example/base",
        TRAIN: "abfs://rows/train-*.jsonl",
        "spec.dataset.credentials": {"secretRef": {"name": "azure"}},
        "spec.output.destination": "abfs://models/recipes",
    },
    "rows of the hub": {TRAIN: "hf://datasets/org/data@main/train/0.parquet"},
    "rows of a registry": {
        TRAIN: "oci://registry.example.com:5000/acme/rows:1.0/data/train-*.jsonl",
        "spec.dataset.validation": {"source": "oci://ghcr.io/acme/rows@sha256:" + 64 * "0" + "/validation.jsonl"},
        "spec.dataset.credentials": {"secretRef": {"name": "registry"}},
    },
    "rows of a config map": {TRAIN: "configmap://rows/train.jsonl"},
    "rows that may hold anything": {"spec.dataset.onSensitive": "ignore"},
    "a claim": {MODEL: "pvc://models/SmolLM2", TRAIN: "pvc://data/train.csv"},
    "what another one serves": {MODEL: "ftj://recipes-sft"},
    "a revision of another one": {MODEL: "ftj://recipes-sft/0a1b2c3d"},
    "a checkpoint of another one": {MODEL: "ftj://recipes-sft/0a1b2c3d@40"},
    "all rows of its own": {VALIDATION: {"source": "s3://b/v.csv"}, "spec.dataset.test": {"source": "s3://b/t.csv"}},
    "full fine-tuning": {"spec.training.adapter.type": "none"},
    "preferences": {"spec.training.method": "dpo"},
    "preferences with everything": {
        "spec.dataset.format": "openai-preference",
        "spec.training.method": "dpo",
        "spec.training.dpo": {
            "beta": 0.05,
            "lossType": ["robust", "sft"],
            "lossWeights": [1, 0.2],
            "labelSmoothing": 0.1,
        },
    },
    "answers that are good or bad": {
        "spec.training.method": "kto",
        "spec.training.kto": {"beta": 0.2, "desirableWeight": 1.33, "undesirableWeight": 1},
    },
    "a reward model": {**REWARD, "spec.training.reward.centerRewardsCoefficient": 0.01, f"{ADAPTER}.type": "dora"},
    "a reward model that has to rank well": {
        **REWARD,
        **TEST,
        EVALUATION: {"metrics": ["ranking_accuracy"], "baselines": [], "gate": {"minimum": 0.7}},
    },
    "a reward model's checkpoints": {**REWARD, "spec.training.keepCheckpoints": 3},
    "checkpoints of a dora adapter": {f"{ADAPTER}.type": "dora", "spec.training.keepCheckpoints": 3},
    "a reward model that is only trained": {
        **REWARD,
        "spec.hosting.enabled": False,
        f"{EVALUATION}.enabled": False,
    },
    "half an epoch": {"spec.training.epochs": 0.5},
    "a tracker": {
        "spec.training.tracking": {
            "type": "mlflow",
            "url": "http://mlflow.ml.svc:5000",
            "project": "recipes",
            "credentials": {"secretRef": {"name": "mlflow"}},
        }
    },
    "a sweep": {SWEEP: {"parameters": {"learningRate": [1e-4, 0.0003], "adapter.rank": [8, 32]}}},
    "a sweep of everything": {
        SWEEP: {
            "parameters": {
                "learningRate": [1e-4],
                "epochs": [1, 0.5],
                "batchSize": [4, 8],
                "adapter.rank": [8, 512],
                "adapter.alpha": [16],
                "adapter.dropout": [0, 0.1],
            },
            "maxTrials": 8,
            "earlyStopping": True,
            "parallel": 4,
        },
        "spec.workspace.accessModes": ["ReadWriteMany"],
    },
    "a trackio server": {
        "spec.training.tracking": {
            "type": "trackio",
            "url": "http://trackio.ml.svc:7860",
            "project": "recipes",
            "credentials": {"secretRef": {"name": "trackio"}},
        }
    },
    "Weights & Biases": {
        "spec.training.tracking": {
            "type": "wandb",
            "url": "https://wandb.example.com",
            "project": "recipes",
            "entity": "cooks",
            "name": "the first",
            "tags": ["recipes", "sft"],
            "credentials": {"secretRef": {"name": "wandb"}},
        }
    },
    "Weights & Biases, the cloud": {
        "spec.training.tracking": {"type": "wandb", "credentials": {"secretRef": {"name": "wandb"}}}
    },
    "event files": {"spec.training.tracking": {"type": "tensorboard"}},
    "checkpoints to choose from": {"spec.training.keepCheckpoints": 3},
    "a budget": {"spec.training.budget": {"acceleratorHours": 0.5}},
    "a budget in money": {"spec.training.budget": {"cost": 100}},
    "a long day": {"spec.training.maxRuntime": "1h30m10s"},
    "quantities": {LIMITS: {"nvidia.com/gpu": 1, "cpu": "1500m", "memory": "1.5Gi"}, "spec.workspace.size": "1e10"},
    "a queue and a priority in it": {
        "spec.training": {
            "queue": "team-a",
            "resources": {"requests": {"cpu": 1}},
            "pod": {"labels": {"kueue.x-k8s.io/priority-class": "high"}},
        }
    },
    "accelerators that divide the weights": {
        "spec.training.sharding": "full",
        "spec.training.adapter.type": "none",
        LIMITS: {"nvidia.com/gpu": 8},
    },
    "nodes that divide them": {
        "spec.training.sharding": "full",
        "spec.training.adapter.type": "none",
        "spec.training.nodes": 2,
        "spec.workspace.accessModes": ["ReadWriteMany"],
    },
    "nodes that share": {"spec.training.nodes": 8, "spec.workspace.accessModes": ["ReadWriteMany"]},
    "replicas that share": {"spec.hosting.replicas": 3, "spec.workspace.accessModes": ["ReadWriteMany"]},
    "a merged adapter": {"spec.hosting.adapter": "merged", "spec.training.keepCheckpoints": 3},
    "a shared engine": {
        "spec.hosting.engine": {"name": "chat"},
        "spec.hosting.replicas": 1,
        "spec.hosting.rollout": "surge",
        "spec.hosting.adapter": "loaded",
        "spec.hosting.revisionHistoryLimit": 3,
        "spec.output.destination": "hf://org/recipes",
        "spec.training.adapter.type": "qlora",
    },
    "everything of evaluation": {
        **TEST,
        EVALUATION: {
            "metrics": ["token_f1", "judge"],
            "baselines": [
                {"type": "zero-shot", "prompt": "Name the ingredients."},
                {"type": "few-shot", "examples": 2},
                {"type": "retrieval", "topK": 2},
                {"type": "structured"},
                {
                    "type": "endpoint",
                    "name": "the large one",
                    "url": "https://api.example.com/v1",
                    "model": "org/large-9:free",
                    "prompt": "Name the ingredients.",
                    "credentials": {"secretRef": {"name": "large"}},
                    "prices": {"millionPromptTokens": 2.5, "millionCompletionTokens": 10, "millionCachedTokens": 0},
                },
                {"type": "endpoint", "url": "http://vllm.other.svc:8000/v1", "model": "small"},
            ],
            "sampleSize": 50,
            "maxAnswerTokens": 512,
            "chatTemplateKwargs": {"enable_thinking": False, "budget": 5, "date": "today"},
            "judge": {"url": "https://judge/v1", "model": "large", "credentials": {"secretRef": {"name": "judge"}}},
            "lmEval": {"source": "configmap://benchmarks", "tasks": ["capitals"], "limit": 20},
            "gate": {"metric": "judge", "minimum": 0.5, "margin": 0.02, "confidence": 0.9},
        },
    },
    "an endpoint whose likelihoods decide nothing": {
        **TEST,
        EVALUATION: {
            "metrics": ["inverse_perplexity", "rouge_l"],
            "baselines": [{"type": "endpoint", "url": "https://api/v1", "model": "large"}],
            "gate": {"metric": "rouge_l"},
        },
    },
    "nothing to compare with": {**TEST, EVALUATION: {"baselines": [], "gate": {"minimum": 0.5}}},
    "a margin over the base model of a full one": {
        **TEST,
        "spec.training.adapter.type": "none",
        EVALUATION: {"gate": {"minimum": 0.5, "margin": 0.02}},
    },
    "a gate with its defaults for a DoRA adapter": {**TEST, f"{ADAPTER}.type": "dora", EVALUATION: {"gate": {}}},
    "the longest name": {"metadata.name": "a" * LONGEST},
    "the longest system prompt": {"spec.dataset.systemPrompt": "ä" * 65536},
    "columns that share a name with the format's": {
        "spec.dataset.columns": {"instruction": "prompt", "output": "text"}
    },
    "a pull request of the hub": {"spec.model.revision": "refs/pr/1"},
    "a bucket by its access point": {TRAIN: "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/rows/train.jsonl"},
    "dots that lead nowhere": {TRAIN: "pvc://data/v1..2/.hidden/train...jsonl"},
    "credentials for one of three": {
        TRAIN: "pvc://data/train.jsonl",
        "spec.dataset.test": {"source": "s3://bucket/test.jsonl"},
        "spec.dataset.credentials": {"secretRef": {"name": "bucket.team-a"}},
    },
    "an adapter's defaults, written out": {ADAPTER: {"type": "none", "rank": 16, "targetModules": ["all-linear"]}},
    "a rank-stabilised adapter of whose halves one learns faster": {
        ADAPTER: {"type": "dora", "rank": 256, "useRslora": True, "loraplusLrRatio": 16}
    },
    "whole modules": {f"{ADAPTER}.modulesToSave": ["embed_tokens", "model.lm_head"]},
    "whole modules that are merged": {f"{ADAPTER}.modulesToSave": ["lm_head"], "spec.hosting.adapter": "merged"},
    "modules of one layer": {f"{ADAPTER}.targetModules": ["model.layers.0.self_attn.q_proj", "k_proj"]},
    "a volume that somebody made": {"spec.workspace.storageClassName": ""},
    "replicas that bring their files": {"spec.hosting.replicas": 3, "spec.workspace.bucket": "s3://work/finetune"},
    "a bucket and volumes of a class": {
        "spec.workspace": {"bucket": "gs://work/finetune", "storageClassName": "fast", "size": "200Gi"}
    },
    "both modes": {"spec.workspace.accessModes": ["ReadWriteOnce", "ReadWriteMany"]},
    "a slice of a GPU": {LIMITS: {"nvidia.com/mig-1g.5gb": 1, "memory": "8Gi"}},
    "devices of all kinds": {
        LIMITS: {
            "amd.com/gpu": "2",
            "nvidia.com/gpu.shared": 1,
            "vpc.amazonaws.com/efa": 4,
            "hugepages-2Mi": "5120Mi",
            "sgx.intel.com/epc": "512Ki",
            "kubernetes.io/batch-cpu": "1500m",
            "ephemeral-storage": "100Gi",
            "memory": "64Gi",
        },
        "spec.training.resources.requests": {"amd.com/gpu": 2, "memory": "65536Mi", "cpu": "0.5"},
    },
    "images of all kinds": {
        "spec.training.image": "localhost:5000/team_a/trainer--x:1.0_RC-1",
        "spec.hosting.image": f"registry.example.com:8443/a/b/c/vllm:v0.32.0@sha256:{'0af' * 21}b",
    },
    "an image's short name": {"spec.training.image": "trainer"},
    "pods of all kinds": {
        "spec.training.pod": {
            "labels": {"team": "", "example.com/Cost_Center.1": "A.b-c_1", "kueue.x-k8s.io/priority-class": "high"},
            "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "note": "Anything: {at} all\n"},
            "nodeSelector": {"cloud.google.com/gke-accelerator": "nvidia-l4", "kubernetes.io/os": "linux"},
            "serviceAccountName": "training.team-a",
            "priorityClassName": "system-cluster-critical",
            "imagePullSecrets": [{"name": "a"}, {"name": "b"}],
            "tolerations": [
                {"operator": "Exists"},
                {"key": "", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0},
                {"key": "nvidia.com/gpu", "value": ""},
                {"key": "a", "operator": "Exists", "value": ""},
                {"key": "a", "operator": "Exists"},
                {"key": "a", "operator": "Exists"},
            ],
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}},
                "podAffinity": {},
                "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []},
            },
        }
    },
    "variables of all kinds": {
        "spec.hosting.pod.env": [
            {"name": name, "value": ""}
            for name in (
                "my.dotted-name",
                "_private",
                "lower",
                "OMP_NUM_THREADS",
                "VLLM_CPU_KVCACHE_SPACE",
                "LD_LIBRARY_PATH",
                "NCCL_DEBUG",
                "AWS_CA_BUNDLE",
                "MY_HF_TOKEN",
                "HOMEPAGE",
                "PYTHONUNBUFFERED",
            )
        ]
    },
    "an affinity that is not there": {
        "spec.hosting.pod.affinity": {"nodeAffinity": None, "podAffinity": None, "podAntiAffinity": None}
    },
    "as much as fits": {
        f"spec.{section}.{field}": value
        for section in ("training", "hosting")
        for field, value in (
            ("image", "a" * 512),
            ("resources.limits", {f"example.com/{'a' * 50}-{number}": 1 for number in range(16)}),
            ("resources.requests", {f"example.com/{'a' * 50}-{number}": 1 for number in range(16)}),
            ("pod.labels", {f"{FAR}/{number:a>63}": "a" * 63 for number in range(32)}),
            ("pod.nodeSelector", {f"{FAR}/{number:a>63}": "a" * 63 for number in range(32)}),
            ("pod.annotations", {f"{FAR}/{number:a>63}": "a" * 8192 for number in range(24)}),
            ("pod.env", [{"name": f"{number:A>253}", "value": "a" * 256} for number in range(64)]),
            ("pod.tolerations", [{"key": f"{FAR}/{'a' * 63}", "value": "a" * 63} for _ in range(64)]),
            ("pod.imagePullSecrets", [{"name": f"{number:a>253}"} for number in range(16)]),
        )
    },
}
