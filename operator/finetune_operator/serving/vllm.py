"""How vLLM is told what to serve, as far as it is the same for all: in pods, and in a process of the local backend."""

from pathlib import Path

from finetune_operator.serving import inside

# The engine answers from files alone, and tells nobody that it runs.
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
# On CPUs: a KV cache of 1 GiB (45,000 tokens of a 135M model, 8,000 of an 8B one), every core for the engine, the model
# in the engine core's process and not in a worker of its own (which V1_MULTIPROCESSING would give it, whatever executor
# is asked for), and threads that sleep while they wait: spinning starves whatever shares the cores.
CPU_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
# Where it serves no adapter, vLLM would compile the model in every pod: that takes Python's headers, which few images
# have, and half a minute of all cores at each start.
CPU_ARGUMENTS = [
    "--enforce-eager",
    *("--distributed-executor-backend", "uni"),
    *("--worker-extension-cls", inside.WORKER_EXTENSION),
]


def served(path: Path, name: str) -> list[str]:
    """The model at `path`, which answers as `name`."""
    return ["--model", str(path), "--served-model-name", name]


def pooled(path: Path, name: str) -> list[str]:
    """The model at `path`, which has a head that makes a number of what it reads, and writes nothing."""
    return [*served(path, name), "--runner", "pooling"]


def common(context_length: int | None, trust_remote_code: bool, probed: tuple[str, ...] = ()) -> list[str]:
    """What every engine is told. Without a `context_length` it takes the model's own. `probed`: what else is asked for
    by those that look after it.
    """
    return [
        *(("--max-model-len", str(context_length)) if context_length else ()),
        # Probes would push the lines that tell why an engine stopped out of its log's tail.
        *("--disable-access-log-for-endpoints", ",".join(("/health", "/metrics", *probed))),
        # What the prefix cache had of a prompt, for the costs in an evaluation's report.
        "--enable-prompt-tokens-details",
        *(["--trust-remote-code"] if trust_remote_code else []),
    ]
