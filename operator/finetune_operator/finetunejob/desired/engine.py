"""How vLLM is told what to serve: by `hosting` in pods, by the local backend in a process, so that both serve alike."""

from pathlib import Path

from finetune_trainer.contract.config import AdapterType, RunConfig, Workspace

# The engine answers from files alone, and tells nobody that it runs.
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
# On CPUs: a KV cache of 1 GiB (45,000 tokens of a 135M model, 8,000 of an 8B one), every core for the engine, one
# process in place of two, and threads that sleep while they wait: spinning starves whatever shares the cores.
CPU_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
CPU_ARGUMENTS = ["--distributed-executor-backend", "uni"]


def arguments(
    config: RunConfig, workspace: Workspace, context_length: int, base: bool = False, step: int | None = None
) -> list[str]:
    """vLLM's arguments for a trained revision: the tuned model answers as `config.name`.

    Beside a LoRA adapter the base model answers too, as `config.base_name`. vLLM loads no DoRA adapters, so train
    leaves them merged into a full model, served like one that was trained in full. `base`: the base model alone.
    `step`: of the checkpoint that is served in place of the artifact.
    """
    tuned = workspace.artifact if step is None else workspace.checkpoint(step)
    return [
        *(_served(workspace.base_model(config), config.base_name) if base else _models(config, workspace, tuned)),
        *("--max-model-len", str(context_length)),
        # Probes would push the lines that tell why an engine stopped out of its log's tail.
        *("--disable-access-log-for-endpoints", "/health,/metrics"),
        # What the prefix cache had of a prompt, for the costs in an evaluation's report.
        "--enable-prompt-tokens-details",
        *(["--trust-remote-code"] if config.model.trust_remote_code else []),
    ]


def _models(config: RunConfig, workspace: Workspace, tuned: Path) -> list[str]:
    adapter = config.training.adapter
    if not adapter.type.beside_base:
        return _served(tuned / "merged" if adapter.type == AdapterType.DORA else tuned, config.name)
    return [
        *_served(workspace.base_model(config), config.base_name),
        "--enable-lora",
        *("--lora-modules", f"{config.name}={tuned}"),
        *("--max-lora-rank", str(adapter.rank)),
    ]


def _served(path: Path, name: str) -> list[str]:
    return ["--model", str(path), "--served-model-name", name]
