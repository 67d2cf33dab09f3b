"""The stages of a revision, in order. `plan` walks them and knows nothing of any one.

A new stage is a module here with one class, its builder in `desired`, its condition in `conditions`, and a line in
STAGES.
"""

from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.finetunejob.stages.base import Stage
from finetune_operator.finetunejob.stages.evaluate import Evaluate
from finetune_operator.finetunejob.stages.host import Host
from finetune_operator.finetunejob.stages.job import JobStage
from finetune_operator.finetunejob.stages.merge import Merge
from finetune_operator.finetunejob.stages.prepare import Prepare
from finetune_operator.finetunejob.stages.promote import Promote
from finetune_operator.finetunejob.stages.publish import Publish
from finetune_operator.finetunejob.stages.train import Train

_EVALUATE = Evaluate()
HOST = Host(measures=_EVALUATE)
STAGES: tuple[Stage, ...] = (Prepare(), Train(), Publish(), Merge(), HOST, _EVALUATE, Promote())
# Those that the trainer carries out, by name.
JOBS: dict[str, JobStage] = {stage.name: stage for stage in STAGES if isinstance(stage, JobStage)}


def wanted(spec: FineTuneJobSpec) -> tuple[Stage, ...]:
    """The stages that this manifest goes through."""
    return tuple(stage for stage in STAGES if stage.wanted(spec))
