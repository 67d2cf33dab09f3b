"""Bad manifests: the API server and the local backend must refuse each, name the field and say what is allowed."""

from dataclasses import replace

from bad_endpoints import ENDPOINTS
from bad_pods import PODS
from manifests import LONGEST, Bad, at_least, at_most, each

MODEL, TRAIN = "spec.model.source", "spec.dataset.train.source"
SYSTEM = "spec.dataset.systemPrompt"
CREDENTIALS = {"secretRef": {"name": "hub"}}
VALIDATION = "spec.dataset.validation"
ADAPTER = "spec.training.adapter"
METHOD, DPO = "spec.training.method", "spec.training.dpo"
REWARD = {METHOD: "reward"}
SHARED = {"spec.hosting.engine": {"name": "chat"}, "spec.output.destination": "s3://models/recipes"}
ENGINES = "goes with an engine of one's own; of a shared one the Engine decides it: remove it, or hosting.engine"
TRACKING = "spec.training.tracking"
WANDB = {"type": "wandb", "credentials": {"secretRef": {"name": "wandb"}}}
SWEEP = "spec.training.sweep"
LIMITS = "spec.training.resources.limits"
EVALUATION, LM_EVAL = "spec.evaluation", "spec.evaluation.lmEval"
TASKS_URIS = "must be pvc://CLAIM/PATH or configmap://NAME"
CHECKSUM = "sha256:" + "0" * 64
TEST = {"spec.dataset.test": {"fraction": 0.1}}
POSITIVE = {"server": "should be greater than 0", "local": "must be greater than 0"}
MODEL_URIS = (
    "must be hf://ORG/NAME, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, abfs://CONTAINER/PREFIX, "
    "oci://REGISTRY/REPO:TAG, pvc://CLAIM/PATH, ftj://NAME or ftj://NAME/REVISION"
)
DATA_URIS = (
    "must be hf://datasets/ORG/NAME/FILE, s3://BUCKET/KEY, gs://BUCKET/KEY, abfs://CONTAINER/KEY, "
    "oci://REGISTRY/REPO:TAG/FILE, https://HOST/PATH, pvc://CLAIM/PATH or configmap://NAME/KEY"
)
OUTPUT_URIS = (
    "must be hf://ORG/NAME, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, abfs://CONTAINER/PREFIX, oci://REGISTRY/REPO or "
    "pvc://CLAIM/PATH"
)
BUCKET_URIS = "must be s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or abfs://CONTAINER/PREFIX"
MODEL_REMOTE = "goes with hf://, s3://, gs://, abfs:// or oci:// sources only: remove it, or choose such a source"
ROWS_REMOTE = "goes with hf://, s3://, gs://, abfs:// or oci:// sources only: remove it, or choose such a source"
MANY_FILES = (
    "can't be https://: a model is many files, and no web server lists them; put it into a bucket, a registry or a "
    "claim, or on the hub"
)
DURATION = "must be a duration longer than zero, such as 90m, 6h or 1h30m"
FRACTION = "must lie between 0 and 1, both excluded"
QUANTITY = 'must be a quantity such as 2, "0.5", 500m or 16Gi'

BAD = [
    *each(MODEL, MODEL_URIS, "gs://bucket", "gs://Bucket/model", "abfs://container", "abfs://a.b/model"),
    *each(MODEL, MODEL_URIS, "oci://ghcr.io/acme/model", "oci://ghcr.io:1.0", "oci://ghcr.io/Acme/model:1.0"),
    *each(MODEL, MANY_FILES, "https://host/model", "https://host/model.tar.gz"),
    *each(MODEL, MODEL_URIS, "http://host/model", "org/model", "hf://model", "hf://a/b/c", ""),
    *each(MODEL, MODEL_URIS, "pvc://models", "configmap://models/model"),
    *each(
        MODEL,
        MODEL_URIS,
        "ftj://Sft",
        "ftj://sft/",
        "ftj://other/sft/0a1b2c3d",
        "ftj://sft/latest",
        "ftj://sft/0a1b2c3d@",
    ),
    *each(TRAIN, DATA_URIS, "gs://train.jsonl", "abfs://a_b/train.jsonl"),
    *each(TRAIN, DATA_URIS, "hf://org/data/train.jsonl", "train.jsonl", "s3://bucket"),
    *each(TRAIN, DATA_URIS, "configmap://rows", "configmap://rows/a/b", "pvc://Claim/rows"),
    *each(TRAIN, DATA_URIS, "http://host/rows.csv", "https://host", "https://host/*.csv", "https://a:b@host/rows.csv"),
    *each(TRAIN, DATA_URIS, "https://host/rows.csv?key=secret", "https://host/rows.csv#part"),
    *each(TRAIN, DATA_URIS, "oci://ghcr.io/acme/rows:1.0", "oci://ghcr.io/acme/rows/train.jsonl", "ftj://recipes"),
    *(
        replace(bad, cluster_only=True)
        for path, uris in ((MODEL, MODEL_URIS), (TRAIN, DATA_URIS))
        for bad in each(path, f"file:// exists only for `finetune run`; in a cluster it {uris}", "file://here")
    ),
    Bad(
        "a revision of a bucket",
        {MODEL: "s3://bucket/model", "spec.model.revision": "main"},
        "spec.model.revision",
        "goes with an hf:// source only: remove it, or choose such a source",
    ),
    *each(
        "spec.model.revision",
        "must be a branch, tag or commit",
        "",
        "../main",
        "a..b",
        "-main",
        "/main",
        "my branch",
        "v1~2",
    ),
    *(
        bad
        for path, places in (
            (MODEL, ("hf://..", "pvc://models")),
            (TRAIN, ("configmap://rows", "pvc://data/a", "s3://b")),
        )
        for bad in each(path, "must not have '..' in its path: name the place itself", *(f"{p}/.." for p in places))
    ),
    *each(TRAIN, "must not have '..' in its path", "pvc://data/../other/rows.jsonl", "hf://datasets/o/n/../rows.jsonl"),
    *each(MODEL, MODEL_URIS, "s3://my bucket/model", "pvc://a..b/model"),
    *each(TRAIN, DATA_URIS, "configmap://rows/a b"),
    Bad(
        "credentials for a claim",
        {MODEL: "pvc://models/base", "spec.model.credentials": CREDENTIALS},
        "spec.model.credentials",
        MODEL_REMOTE,
    ),
    Bad(
        "credentials for another one's artifact",
        {MODEL: "ftj://sft", "spec.model.credentials": CREDENTIALS},
        "spec.model.credentials",
        MODEL_REMOTE,
    ),
    Bad(
        "credentials for rows that are mounted",
        {
            TRAIN: "pvc://data/train.jsonl",
            "spec.dataset.test": {"source": "configmap://rows/test.jsonl"},
            "spec.dataset.credentials": CREDENTIALS,
        },
        "spec.dataset.credentials",
        ROWS_REMOTE,
    ),
    *(
        Bad(
            f"the Secret {name!r}",
            {f"{path}.secretRef.name": name},
            f"{path}.secretRef.name",
            "must be an object's name",
        )
        for path in ("spec.model.credentials", "spec.dataset.credentials")
        for name in ("", "Hub", "my_secret", "-hub", "hub.", "a..b")
    ),
    *each(
        "spec.dataset.columns",
        "names one of your columns twice: each of the format's columns needs its own",
        {"prompt": "text", "completion": "text"},
    ),
    Bad(
        "a column without a name", {"spec.dataset.columns": {"prompt": ""}}, "spec.dataset.columns.prompt", "at least 1"
    ),
    Bad("a system prompt without words", {SYSTEM: ""}, SYSTEM, server="at least 1 chars", local="at least 1 character"),
    Bad(
        "a system prompt of a book", {SYSTEM: "a" * 65537}, SYSTEM, server="Too long", local="at most 65536 characters"
    ),
    Bad(
        "a system prompt for plain text",
        {SYSTEM: "You cook.", "spec.dataset.format": "text"},
        SYSTEM,
        "goes with rows that are messages or prompts, not with format text: remove it",
    ),
    Bad(
        "a split from two places",
        {f"{VALIDATION}.source": "s3://bucket/validation.jsonl", f"{VALIDATION}.fraction": 0.1},
        VALIDATION,
        "needs either source or fraction, and not both",
    ),
    Bad(
        "rows from a web server with credentials",
        {TRAIN: "https://host/rows.csv", "spec.dataset.credentials": CREDENTIALS},
        "spec.dataset.credentials",
        ROWS_REMOTE,
    ),
    *each(
        "spec.dataset.train.checksum",
        "must be sha256: and the 64 hex digits of sha256sum",
        "0" * 64,
        "sha256:" + "0" * 63,
        "md5:" + "0" * 64,
    ),
    Bad(
        "the checksum of many files",
        {"spec.dataset.train": {"source": "s3://bucket/*.csv", "checksum": CHECKSUM}},
        "spec.dataset.train.checksum",
        "is of one file: remove it, or name the file without *",
    ),
    Bad(
        "the checksum of a fraction",
        {f"{VALIDATION}.fraction": 0.1, f"{VALIDATION}.checksum": CHECKSUM},
        f"{VALIDATION}.checksum",
        "goes with a source: remove it",
    ),
    Bad("a split from nowhere", {"spec.dataset.test": {}}, "spec.dataset.test", "needs either source or fraction"),
    *each(f"{VALIDATION}.fraction", FRACTION, 0, 1, 1.5, -0.1),
    Bad(
        "splits that leave nothing",
        {f"{VALIDATION}.fraction": 0.5, "spec.dataset.test.fraction": 0.5},
        "spec.dataset.test",
        "the fractions of validation and test leave no row to train on: together they must stay below 1",
    ),
    Bad(
        "epochs and maxSteps",
        {"spec.training.epochs": 3, "spec.training.maxSteps": 10},
        "spec.training.maxSteps",
        "training takes either epochs or maxSteps",
    ),
    *(
        replace(bad, fields=bad.fields | {f"{TRACKING}.type": "mlflow"})
        for bad in each(
            f"{TRACKING}.url",
            "must be the tracker's URL, such as https://HOST, without a user or a password in it",
            "mlflow.example.com",
            "https://anna:secret@mlflow.example.com",
            "https://mlflow.example.com/?workspace=1",
        )
    ),
    Bad(
        "mlflow nowhere",
        {f"{TRACKING}.type": "mlflow"},
        f"{TRACKING}.url",
        "is what types mlflow and trackio ask for, since nothing else outlives the pod: give the server's URL",
    ),
    Bad(
        "trackio nowhere",
        {f"{TRACKING}.type": "trackio"},
        f"{TRACKING}.url",
        "is what types mlflow and trackio ask for, since nothing else outlives the pod: give the server's URL",
    ),
    Bad(
        "trackio in a Space",
        {TRACKING: {"type": "trackio", "url": "https://anna-runs.hf.space"}},
        f"{TRACKING}.url",
        "is a Space, which would ask for your Hugging Face token: give the URL of a trackio server of your own",
    ),
    Bad(
        "files at a server",
        {TRACKING: {"type": "tensorboard", "url": "https://mlflow.example.com"}},
        TRACKING,
        "has url, project or credentials, of no use to event files: remove them, or choose another type",
    ),
    Bad(
        "wandb without a key",
        {TRACKING: {"type": "wandb"}},
        f"{TRACKING}.credentials",
        "is what type wandb asks for, which takes no run without a key: name a Secret with WANDB_API_KEY",
    ),
    Bad(
        "a project that wandb has none of",
        {TRACKING: {**WANDB, "project": "food/recipes"}},
        f"{TRACKING}.project",
        "must be what wandb takes as a project: at most 128 letters, digits, '-', '_', '.' and spaces",
    ),
    *(
        Bad(
            f"the {field} of another tracker",
            {TRACKING: {"type": "trackio", "url": "https://trackio.example.com", field: value}},
            TRACKING,
            "has entity, name or tags, which wandb alone knows: remove them, or choose wandb",
        )
        for field, value in {"entity": "cooks", "name": "first", "tags": ["a"]}.items()
    ),
    Bad("rank 12", {f"{ADAPTER}.rank": 12}, f"{ADAPTER}.rank", server='values: "8", "16", "32"', local="8, 16, 32"),
    *at_least(f"{ADAPTER}.alpha", 1, 0, -1),
    at_most(f"{ADAPTER}.alpha", 65536),
    *at_least(f"{ADAPTER}.loraplusLrRatio", 1, 0, 0.5),
    at_most(f"{ADAPTER}.loraplusLrRatio", 1000),
    at_most("spec.training.epochs", 10000),
    at_most("spec.training.maxSteps", 10000000),
    at_most("spec.training.batchSize", 65536),
    at_most("spec.training.maxLength", 16777216),
    at_most("spec.training.seed", 2147483647),
    at_most("spec.training.retries", 10),
    Bad("an empty budget", {"spec.training.budget": {}}, "spec.training.budget", "needs acceleratorHours or cost"),
    Bad(
        "a budget of nothing",
        {"spec.training.budget": {"acceleratorHours": 0}},
        "spec.training.budget.acceleratorHours",
        server="should be greater than 0",
        local="must be greater than 0",
    ),
    at_most("spec.training.keepCheckpoints", 10),
    at_most("spec.hosting.contextLength", 16777216),
    at_most("spec.hosting.replicas", 100),
    at_most("spec.hosting.revisionHistoryLimit", 9),
    at_most("spec.evaluation.sampleSize", 100000),
    at_most("spec.evaluation.maxAnswerTokens", 2**24),
    *at_least(f"{ADAPTER}.dropout", 0, -1),
    Bad("dropout 1", {f"{ADAPTER}.dropout": 1}, f"{ADAPTER}.dropout", "less than 1"),
    Bad("no module", {f"{ADAPTER}.targetModules": []}, f"{ADAPTER}.targetModules", "at least 1 item"),
    *(
        Bad(
            f"{field} without an adapter",
            {f"{ADAPTER}.type": "none", f"{ADAPTER}.{field}": value},
            f"{ADAPTER}.{field}",
            "has no meaning with adapter.type none: remove it, or choose lora, qlora or dora",
        )
        for field, value in (
            *(("alpha", 32), ("rank", 32), ("dropout", 0.1), ("targetModules", ["q_proj"])),
            *(("useRslora", True), ("loraplusLrRatio", 16), ("modulesToSave", ["lm_head"])),
        )
    ),
    Bad("nothing saved", {f"{ADAPTER}.modulesToSave": []}, f"{ADAPTER}.modulesToSave", "at least 1 item"),
    *each(f"{ADAPTER}.modulesToSave", "names a module twice", ["lm_head", "lm_head"]),
    *(
        replace(bad, names=f"{ADAPTER}.modulesToSave[0]")
        for bad in each(f"{ADAPTER}.modulesToSave", "must be a module's name", [".*head"], ["all-linear"])
    ),
    Bad(
        "whole modules beside four bits",
        {f"{ADAPTER}.type": "qlora", f"{ADAPTER}.modulesToSave": ["lm_head"]},
        f"{ADAPTER}.modulesToSave",
        "is not there for qlora, since what is served then is merged with the base model, which qlora has in four "
        "bits: remove it, or choose lora or dora",
    ),
    Bad(
        "whole modules that are to be loaded",
        {f"{ADAPTER}.modulesToSave": ["lm_head"], "spec.hosting.adapter": "loaded"},
        "spec.hosting.adapter",
        "can't be loaded with training.adapter.modulesToSave: vLLM loads no adapter that brings whole modules; set "
        "merged, or leave it out, which comes to the same",
    ),
    Bad(
        "whole modules on a shared engine",
        SHARED | {f"{ADAPTER}.modulesToSave": ["lm_head"]},
        f"{ADAPTER}.modulesToSave",
        "can't be served with hosting.engine: vLLM loads no adapter that brings whole modules beside a base model; "
        "remove it, or hosting.engine, since an engine of one's own serves the whole model",
    ),
    *each(f"{ADAPTER}.targetModules", "names a module twice", ["q_proj", "q_proj"]),
    *each(f"{ADAPTER}.targetModules", "has all-linear among others: it stands alone", ["all-linear", "q_proj"]),
    *(
        replace(bad, names=f"{ADAPTER}.targetModules[0]")
        for bad in each(
            f"{ADAPTER}.targetModules", "must be all-linear or a module's name", [""], [".*_proj"], ["q proj"]
        )
    ),
    Bad(
        "a method's settings without the method",
        {f"{DPO}.beta": 0.2},
        DPO,
        "goes with method dpo only: remove it, or choose that method",
    ),
    Bad(
        "another method's settings",
        {METHOD: "dpo", "spec.training.kto": {"beta": 0.2}},
        "spec.training.kto",
        "goes with method kto only: remove it, or choose that method",
    ),
    Bad(
        "a model that writes measured as one that rates",
        {**TEST, METHOD: "dpo", f"{EVALUATION}.metrics": ["reward_accuracy", "ranking_accuracy"]},
        f"{EVALUATION}.metrics",
        "has ranking_accuracy, which measures reward models: remove it, or choose training.method reward; which answer "
        "a dpo model has come to prefer, reward_accuracy tells",
    ),
    Bad(
        "a reward model's settings without one",
        {"spec.training.reward": {"centerRewardsCoefficient": 0.01}},
        "spec.training.reward",
        "goes with method reward only: remove it, or choose that method",
    ),
    *(
        replace(bad, fields=REWARD | bad.fields)
        for bad in (
            Bad(
                "a reward model beside others",
                SHARED,
                "spec.hosting.engine",
                "is not there for reward models, which have a head of their own in place of the base model's: remove "
                "it",
            ),
            Bad(
                "a reward model's adapter",
                {"spec.hosting.adapter": "loaded"},
                "spec.hosting.adapter",
                "is not there for reward models, which are served whole: remove it",
            ),
            Bad(
                "a reward model as a GGUF file",
                {"spec.output": {"destination": "s3://models/recipes", "formats": ["gguf"]}},
                "spec.output.formats",
                "has gguf, which holds models that write answers, and a reward model rates them: remove it",
            ),
            *(
                Bad(
                    f"a reward model measured by {metrics}",
                    {**TEST, f"{EVALUATION}.metrics": metrics},
                    f"{EVALUATION}.metrics",
                    "can be ranking_accuracy alone with training.method reward: a reward model gives no answers to "
                    "compare",
                )
                for metrics in (["rouge_l"], ["ranking_accuracy", "reward_accuracy"])
            ),
            Bad(
                "a reward model beside prompts",
                {**TEST, f"{EVALUATION}.baselines": [{"type": "zero-shot"}]},
                f"{EVALUATION}.baselines",
                "has nothing that could rank the pairs of a reward model: remove it; guessing is right in half of them",
            ),
            Bad(
                "a reward model that is to lead",
                {**TEST, f"{EVALUATION}.gate": {"minimum": 0.7, "margin": 0.02}},
                f"{EVALUATION}.gate.margin",
                "is over the best baseline, and a reward model has none: remove it, and set gate.minimum",
            ),
            Bad(
                "a reward model of which nothing is asked",
                {**TEST, f"{EVALUATION}.gate": {}},
                f"{EVALUATION}.gate.minimum",
                "is all that a gate can ask of a reward model: set it, above the 0.5 that guessing has",
            ),
            Bad(
                "a reward model in a benchmark",
                {**TEST, LM_EVAL: {"source": "pvc://tasks/all", "tasks": ["arc"]}},
                LM_EVAL,
                "asks for answers, and a reward model writes none: remove it",
            ),
            Bad(
                "a reward model's longest answer",
                {**TEST, f"{EVALUATION}.maxAnswerTokens": 64},
                f"{EVALUATION}.maxAnswerTokens",
                "is of answers, and a reward model writes none: remove it",
            ),
            Bad(
                "a reward model beside four bits",
                {f"{ADAPTER}.type": "qlora"},
                f"{ADAPTER}.type",
                "qlora is not there for reward models, whose adapter is merged with the base model: choose lora, dora "
                "or none",
            ),
            at_most("spec.training.reward.centerRewardsCoefficient", 100),
        )
    ),
    Bad(
        "more weights than losses",
        {METHOD: "dpo", f"{DPO}.lossWeights": [1, 0.2]},
        f"{DPO}.lossWeights",
        "needs a weight for each loss of lossType",
    ),
    Bad(
        "as many pairs the wrong way round as not",
        {METHOD: "dpo", f"{DPO}.lossType": ["robust"], f"{DPO}.labelSmoothing": 0.5},
        f"{DPO}.labelSmoothing",
        "must be less than 0.5",
    ),
    Bad(
        "smoothing that no loss reads",
        {METHOD: "dpo", f"{DPO}.labelSmoothing": 0.1},
        f"{DPO}.labelSmoothing",
        "is robust's alone: remove it, or add robust to lossType",
    ),
    Bad(
        "a loss twice",
        {METHOD: "dpo", f"{DPO}.lossType": ["ipo", "ipo"]},
        f"{DPO}.lossType",
        "names a loss twice",
    ),
    Bad("an adapter of the future", {f"{ADAPTER}.type": "vera"}, f"{ADAPTER}.type", server='"lora"', local="'lora'"),
    *(Bad(f"epochs {value}", {"spec.training.epochs": value}, "spec.training.epochs", **POSITIVE) for value in (0, -1)),
    *(
        Bad(f"learningRate {value}", {"spec.training.learningRate": value}, "spec.training.learningRate", **POSITIVE)
        for value in (0, -0.0001)
    ),
    Bad("learningRate 2", {"spec.training.learningRate": 2}, "spec.training.learningRate", "less than or equal to 1"),
    *at_least("spec.training.maxSteps", 1, 0, -1),
    *at_least("spec.training.batchSize", 1, 0, -1),
    *at_least("spec.training.maxLength", 8, 0, -1),
    *at_least("spec.training.seed", 0, -1),
    *at_least("spec.training.retries", 0, -1),
    *at_least("spec.training.keepCheckpoints", 1, 0),
    *at_least("spec.hosting.replicas", 1, 0, -1),
    *at_least("spec.hosting.contextLength", 16, 0, -1),
    *at_least("spec.hosting.revisionHistoryLimit", 0, -1),
    Bad("a number as text", {"spec.training.seed": "3"}, "spec.training.seed", "integer"),
    *each("spec.training.maxRuntime", DURATION, "soon", "0s", "-1h", "", "1d", "1h 30m", "90"),
    Bad(
        "replicas on a ReadWriteOnce volume",
        {"spec.hosting.replicas": 2},
        "spec.hosting.replicas",
        "above 1 needs workspace.bucket, or workspace.accessModes [ReadWriteMany]: a ReadWriteOnce volume holds all "
        "replicas on one node",
    ),
    *(
        Bad(f"{path} beside a shared engine", SHARED | {f"spec.hosting.{path}": value}, f"spec.hosting.{path}", ENGINES)
        for path, value in (
            ("replicas", 2),
            ("resources", {"limits": {"nvidia.com/gpu": 1}}),
            ("contextLength", 512),
            ("rollout", "recreate"),
            ("apiKey", {"secretRef": {"name": "key"}}),
            ("pod", {"nodeSelector": {"zone": "a"}}),
            ("image", "vllm:2"),
        )
    ),
    Bad(
        "a merged model on a shared engine",
        SHARED | {"spec.hosting.adapter": "merged"},
        "spec.hosting.adapter",
        "must be loaded with hosting.engine: a shared engine serves adapters beside its base model; remove it, or "
        "hosting.engine",
    ),
    *(
        Bad(
            f"a choice of how to serve an adapter of type {adapter}",
            {f"{ADAPTER}.type": adapter, "spec.hosting.adapter": "merged"},
            "spec.hosting.adapter",
            "goes with training.adapter.type lora or qlora: of others the whole model is served; remove it",
        )
        for adapter in ("dora", "none")
    ),
    Bad(
        "an adapter served in another way",
        {"spec.hosting.adapter": "fused"},
        "spec.hosting.adapter",
        server="supported values",
        local="'loaded' or 'merged'",
    ),
    Bad(
        "a shared engine that finds the artifact nowhere",
        {"spec.hosting.engine": {"name": "chat"}},
        "spec.hosting.engine",
        "needs output.destination: the pods of the Engine read the artifact there",
    ),
    Bad(
        "a shared engine for what is published on a claim",
        {"spec.hosting.engine": {"name": "chat"}, "spec.output.destination": "pvc://models/recipes"},
        "spec.output.destination",
        "must be hf://, s3://, gs://, abfs:// or oci:// with hosting.engine: its pods, which run already, can't mount "
        "another volume",
    ),
    Bad(
        "a shared engine for what goes on from another FineTuneJob",
        SHARED | {MODEL: "ftj://base"},
        MODEL,
        "can't be ftj:// with hosting.engine: no Engine serves what another FineTuneJob made, and an adapter fits the "
        "model that it was trained on",
    ),
    *(
        Bad(
            f"{adapter} on a shared engine",
            SHARED | {f"{ADAPTER}.type": adapter},
            f"{ADAPTER}.type",
            "must be lora or qlora with hosting.engine: vLLM loads no other adapters beside a base model",
        )
        for adapter in ("dora", "none")
    ),
    *(
        replace(bad, fields=SHARED | {"spec.hosting.engine": {"name": bad.fields[bad.names]}})
        for bad in each("spec.hosting.engine.name", "must be lower-case letters", "Chat", "1", "")
    ),
    Bad(
        "a gate on nothing",
        {f"{EVALUATION}.enabled": False, f"{EVALUATION}.gate": {"minimum": 0.5}},
        f"{EVALUATION}.gate",
        "needs a measurement: remove it, or set evaluation.enabled to true",
    ),
    Bad(
        "benchmarks of nothing",
        {f"{EVALUATION}.enabled": False, LM_EVAL: {"source": "configmap://tasks", "tasks": ["capitals"]}},
        LM_EVAL,
        "needs a measurement: remove it, or set evaluation.enabled to true",
    ),
    *(
        Bad(f"tasks at {uri}", {LM_EVAL: {"source": uri, "tasks": ["capitals"]}}, f"{LM_EVAL}.source", TASKS_URIS)
        for uri in ("s3://bucket/tasks", "pvc://benchmarks", "configmap://tasks/capitals.yaml", "capitals")
    ),
    Bad(
        "tasks elsewhere",
        {LM_EVAL: {"source": "pvc://benchmarks/../other", "tasks": ["capitals"]}},
        f"{LM_EVAL}.source",
        "must not have '..' in its path: name the place itself",
    ),
    Bad(
        "tasks on a laptop",
        {LM_EVAL: {"source": "file://tasks", "tasks": ["capitals"]}},
        f"{LM_EVAL}.source",
        f"file:// exists only for `finetune run`; in a cluster it {TASKS_URIS}",
        cluster_only=True,
    ),
    *(
        Bad(f"{what}", {**TEST, f"{EVALUATION}.{field}": value}, f"{EVALUATION}.{named}", allowed)
        for what, field, value, named, allowed in (
            ("a metric twice", "metrics", ["rouge_l", "rouge_l"], "metrics", "names a metric twice"),
            (
                "a baseline twice",
                "baselines",
                [{"type": "few-shot"}, {"type": "few-shot", "examples": 8}],
                "baselines",
                "has a type twice: there is one baseline of each, and endpoints have names",
            ),
            (
                "topK of few-shot",
                "baselines",
                [{"type": "few-shot", "topK": 4}],
                "baselines[0].topK",
                "goes with type retrieval only; few-shot has examples",
            ),
            (
                "examples of retrieval",
                "baselines",
                [{"type": "retrieval", "examples": 4}],
                "baselines[0].examples",
                "goes with type few-shot only; retrieval has topK",
            ),
            (
                "a judge that nobody asks",
                "judge",
                {"url": "https://judge/v1", "model": "large"},
                "judge",
                "and the metric judge belong together: give both, or neither",
            ),
            (
                "the metric judge without one",
                "metrics",
                ["judge"],
                "judge",
                "and the metric judge belong together: give both, or neither",
            ),
            (
                "a gate on what is not measured",
                "gate",
                {"metric": "rouge_l"},
                "gate.metric",
                "must be one of evaluation.metrics: add it there",
            ),
            ("a confidence of one", "gate", {"confidence": 1}, "gate.confidence", "must be 0.8, 0.9, 0.95 or 0.99"),
            ("a minimum of 80", "gate", {"minimum": 80}, "gate.minimum", "less than or equal to 1"),
            ("a margin of 1", "gate", {"margin": 1}, "gate.margin", "less than 1"),
        )
    ),
    Bad(
        "a margin over no baseline",
        {**TEST, EVALUATION: {"baselines": [], "gate": {"minimum": 0.5, "margin": 0.1}}},
        f"{EVALUATION}.gate.margin",
        "is over the best baseline, and evaluation.baselines has none: remove it and set gate.minimum, or name a "
        "baseline",
    ),
    Bad(
        "a gate that demands nothing",
        {**TEST, EVALUATION: {"baselines": [], "gate": {}}},
        f"{EVALUATION}.gate.minimum",
        "is all that a gate can ask without baselines: set it, or name a baseline",
    ),
    Bad(
        "a judge without a scheme",
        {**TEST, f"{EVALUATION}.metrics": ["judge"], f"{EVALUATION}.judge": {"url": "judge:8000", "model": "large"}},
        f"{EVALUATION}.judge.url",
        "must be the URL of an OpenAI-compatible endpoint, such as https://HOST/v1",
    ),
    *(
        Bad(
            f"the judge {url}",
            {**TEST, f"{EVALUATION}.metrics": ["judge"], f"{EVALUATION}.judge": {"url": url, "model": "large"}},
            f"{EVALUATION}.judge.url",
            "must be the URL of an OpenAI-compatible endpoint, such as https://HOST/v1",
        )
        for url in ("https://user:password@judge/v1", "https://judge/v1?key=secret", "https://the judge/v1")
    ),
    Bad(
        "an unknown metric",
        {**TEST, f"{EVALUATION}.metrics": ["bleu"]},
        f"{EVALUATION}.metrics[0]",
        server='"exact_match"',
        local="'exact_match'",
    ),
    *(
        Bad(f"quantity {value!r}", {LIMITS: {"memory": value}}, f"{LIMITS}.memory", QUANTITY)
        for value in ("lots", "16 Gi", "16GB", "-1Gi", -1, "", "Gi", "e3")
    ),
    Bad("half a core", {LIMITS: {"cpu": 0.5}}, f"{LIMITS}.cpu", server="integer,string", local=QUANTITY),
    *at_least("spec.training.nodes", 1, 0),
    at_most("spec.training.nodes", 64),
    Bad(
        "nodes on a volume of one",
        {"spec.training.nodes": 2},
        "spec.training.nodes",
        "above 1 needs workspace.accessModes [ReadWriteMany] (and a storage class that has it): "
        "a ReadWriteOnce volume holds all pods on one node",
    ),
    Bad(
        "nodes that hand on in a bucket",
        {"spec.training.nodes": 2, "spec.workspace.bucket": "s3://work/finetune"},
        "spec.training.nodes",
        "can't be above 1 with workspace.bucket: pods that train together go on from one checkpoint, on a volume that "
        "they share; set it to 1, or share a volume (workspace.accessModes [ReadWriteMany])",
    ),
    *(
        Bad(
            f"sharding of {kind}",
            {"spec.training.sharding": "full", f"{ADAPTER}.type": kind, LIMITS: {"nvidia.com/gpu": 2}},
            "spec.training.sharding",
            "full is for full fine-tuning (adapter.type none): an adapter is small, and each device holds its base "
            "model whole, in four bits with adapter.type qlora; remove it",
        )
        for kind in ("lora", "qlora")
    ),
    *(
        Bad(
            f"sharding with {limits or 'nothing'}",
            {"spec.training.sharding": "full", f"{ADAPTER}.type": "none", LIMITS: limits},
            "spec.training.sharding",
            "full divides the weights among several devices: ask for more than one accelerator in resources.limits, "
            "or for more nodes, or remove it",
        )
        for limits in ({}, {"nvidia.com/gpu": 1}, {"cpu": 8, "rdma/hca": 4, "nvidia.com/gpu": 1})
    ),
    *(
        Bad(f"a sweep of {parameters}", {SWEEP: {"parameters": parameters}}, f"{SWEEP}.{names}", allowed, server, local)
        for parameters, names, allowed, server, local in (
            ({}, "parameters", "names nothing to try: give values of learningRate, epochs", "", ""),
            (
                {"seed": [1]},
                "parameters.seed",
                "",
                "unknown field",
                "is not a field; the fields here are learningRate",
            ),
            ({"learningRate": []}, "parameters.learningRate", "at least 1 item", "", ""),
            ({"learningRate": [1e-4, 1e-4]}, "parameters.learningRate", "names a value twice", "", ""),
            ({"learningRate": [1e-4, 2]}, "parameters.learningRate[1]", "less than or equal to 1", "", ""),
            ({"adapter.rank": [8, 9]}, "parameters.adapter.rank[1]", "", "supported values", "8, 16, 32"),
            ({"adapter.dropout": [1]}, "parameters.adapter.dropout[0]", "less than 1", "", ""),
        )
    ),
    *(
        Bad(f"{value} of {path} beside its sweep", {SWEEP: {"parameters": {path: [tried]}}, **fields}, names, said)
        for path, tried, value, said in (
            ("learningRate", 1e-4, 1e-3, "is swept, so it has no value of its own"),
            ("epochs", 2, 1, "is swept, so it has no value of its own"),
            ("batchSize", 4, 8, "is swept, so it has no value of its own"),
            ("adapter.rank", 8, 32, "is swept, so it has no value of its own"),
            ("adapter.alpha", 8, 32, "is swept, so it has no value of its own"),
            ("adapter.dropout", 0.1, 0.2, "is swept, so it has no value of its own"),
        )
        for names in (f"spec.training.{path}",)
        for fields in ({names: value},)
    ),
    *(
        Bad(f"a sweep beside {field}", {SWEEP: {"parameters": parameters}, field: value}, names, said)
        for field, value, parameters, names, said in (
            ("spec.training.maxSteps", 9, {"epochs": [1]}, "spec.training.maxSteps", "takes the place of epochs"),
            (f"{ADAPTER}.type", "none", {"adapter.rank": [8]}, f"{SWEEP}.parameters", "has values for an adapter"),
        )
    ),
    Bad(
        "a sweep on several nodes",
        {
            SWEEP: {"parameters": {"epochs": [1, 2]}},
            "spec.training.nodes": 2,
            "spec.workspace.accessModes": ["ReadWriteMany"],
        },
        SWEEP,
        "goes with nodes 1 only: each trial trains on one, and sweep.parallel says how many train at the same time",
    ),
    Bad(
        "a budget of a sweep",
        {SWEEP: {"parameters": {"epochs": [1, 2]}}, "spec.training.budget": {"acceleratorHours": 1}},
        "spec.training.budget",
        "ends one training, and a sweep is several: leave it out, or the sweep",
    ),
    Bad(
        "trials at the same time on a volume of one",
        {SWEEP: {"parameters": {"epochs": [1, 2]}, "parallel": 2}},
        f"{SWEEP}.parallel",
        "above 1 needs workspace.accessModes [ReadWriteMany] (and a storage class that has it)",
    ),
    *(
        Bad(f"{value} of {name}", {SWEEP: {"parameters": {"epochs": [1]}, name: value}}, f"{SWEEP}.{name}", said)
        for name, value, said in (
            ("maxTrials", 0, "greater than or equal to 1"),
            ("maxTrials", 33, "less than or equal to 32"),
            ("parallel", 0, "greater than or equal to 1"),
        )
    ),
    *each("spec.training.queue", "must be a LocalQueue's name", "Team-A", "team a"),
    Bad(
        "a queue for nothing",
        {"spec.training.queue": "team-a"},
        "spec.training.queue",
        "has quota for what training.resources asks for, which is nothing: ask there for accelerators, cpu or memory",
    ),
    Bad(
        "a queue by its label",
        {"spec.training.pod.labels": {"kueue.x-k8s.io/queue-name": "team-a"}},
        "spec.training.pod.labels",
        "has kueue.x-k8s.io/queue-name: remove it, and name the queue in training.queue",
    ),
    *ENDPOINTS,
    *PODS,
    Bad(
        "trials at the same time in a bucket",
        {SWEEP: {"parameters": {"epochs": [1, 2]}, "parallel": 2}, "spec.workspace.bucket": "s3://work/finetune"},
        f"{SWEEP}.parallel",
        "can't be above 1 with workspace.bucket: trials that run at the same time tell one another by files on one "
        "volume how they stand; set it to 1, or share a volume (workspace.accessModes [ReadWriteMany])",
    ),
    Bad(
        "TensorBoard's files in a bucket",
        {TRACKING: {"type": "tensorboard"}, "spec.workspace.bucket": "s3://work/finetune"},
        f"{TRACKING}.type",
        "can't be tensorboard with workspace.bucket: TensorBoard reads its files on a volume that outlasts the pod; "
        "choose mlflow, or remove tracking",
    ),
    *each("spec.workspace.bucket", BUCKET_URIS, "work", "s3://work", "gs://work", "hf://org/name", "pvc://work/a"),
    *each("spec.workspace.bucket", "must not have '..' in its path", "s3://work/../other"),
    Bad(
        "a bucket and a volume that pods share",
        {"spec.workspace": {"bucket": "s3://work/finetune", "accessModes": ["ReadWriteMany"]}},
        "spec.workspace.accessModes",
        "goes with a volume that pods share, and with workspace.bucket each has its own: remove it, or the bucket",
    ),
    Bad(
        "a workspace's credentials without a bucket",
        {"spec.workspace": {"credentials": {"secretRef": {"name": "work"}}}},
        "spec.workspace.credentials",
        "goes with workspace.bucket: set it, or remove the credentials",
    ),
    *each("spec.workspace.cache", "must be pvc://CLAIM/PATH", "models", "pvc://models", "s3://models/cache"),
    *each(
        "spec.output.destination",
        OUTPUT_URIS,
        "s3://models",
        "gs://models",
        "abfs://models/",
        "hf://org",
        "hf://a/b@c",
        "pvc://models",
        "/a",
    ),
    *each(
        "spec.output.destination", OUTPUT_URIS, "hf://org/name@main", "oci://ghcr.io", "oci://ghcr.io/acme/model:1.0"
    ),
    *each("spec.output.destination", "must not have '..' in its path", "s3://models/../other"),
    Bad(
        "an output without a destination",
        {"spec.output": {"credentials": {"secretRef": {"name": "bucket"}}}},
        "spec.output.credentials",
        "goes with output.destination: set it, or remove the credentials",
    ),
    Bad(
        "credentials for a claim",
        {"spec.output": {"destination": "pvc://models/recipes", "credentials": {"secretRef": {"name": "bucket"}}}},
        "spec.output.credentials",
        "goes with hf://, s3://, gs://, abfs:// or oci:// destinations only: remove it, or choose such a destination",
    ),
    Bad(
        "a merged model that is not published",
        {"spec.output": {"merge": True}},
        "spec.output.merge",
        "goes with output.destination: set it, or remove merge",
    ),
    Bad(
        "a format of what is not published",
        {"spec.output": {"formats": ["gguf"]}},
        "spec.output.formats",
        "goes with output.destination: set it, or remove formats",
    ),
    Bad(
        "a format twice",
        {"spec.output": {"destination": "s3://models/recipes", "formats": ["gguf", "gguf"]}},
        "spec.output.formats",
        "names a format twice",
    ),
    Bad(
        "a signature of what is not published",
        {"spec.output": {"sign": {"secretRef": {"name": "key"}}}},
        "spec.output.sign",
        "goes with output.destination: set it, or remove sign",
    ),
    *each("spec.workspace.size", "must be at least 1Mi, such as 20Gi: a number without a unit", 0, "0Gi", 20, "1023Ki"),
    *each("spec.workspace.storageClassName", "must be a storage class's name", "Fast", "fast ssd"),
    *each(
        "spec.workspace.accessModes",
        "names a mode twice",
        ["ReadWriteOnce", "ReadWriteOnce"],
    ),
    *each("spec.workspace.size", QUANTITY, "big"),
    *each("metadata.name", f"must be at most {LONGEST} characters long", "a" * (LONGEST + 1)),
    *each("metadata.name", "must be lower-case letters, digits and '-', starting with a letter", "recipes.v2", "2nd"),
    Bad("no model", {"spec": {"dataset": {"train": {"source": "s3://b/t"}}}}, "spec.model", server="Required"),
    Bad("no spec", {"spec": None}, "spec", server="Required", local="is required"),
    Bad(
        "an unknown field",
        {"spec.training.epoch": 3},
        "spec.training.epoch",
        server='unknown field "spec.training.epoch"',
        local="is not a field; did you mean epochs?",
    ),
    Bad(
        "an unknown section",
        {"spec.engine": {"replicas": 2}},
        "spec.engine",
        server='unknown field "spec.engine"',
        local="is not a field; the fields here are model, dataset, training, evaluation, hosting, output, workspace, ",
    ),
]
