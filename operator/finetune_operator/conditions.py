"""The closed vocabulary of conditions and reasons, and the arithmetic of a conditions list.

A condition is True when what it names holds, False when it failed or waits for the user, Unknown while it is under way.
Reconciling and Stalled are kstatus's (Flux, kpt): they repeat Ready, and are there only while they hold.
`docs/conditions.md` is generated from here; `stages` and `diagnose` choose reasons, the local backend uses the same.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Literal

from finetune_operator.api.status import Condition


class Type(StrEnum):
    """Condition types, in the order in which a revision goes through them; Ready sums them up."""

    ACCEPTED = "Accepted"
    DATA_READY = "DataReady"
    TRAINED = "Trained"
    PUBLISHED = "Published"
    MERGED = "Merged"
    HOSTED = "Hosted"
    EVALUATED = "Evaluated"
    PROMOTED = "Promoted"
    AVAILABLE = "Available"
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Reason(StrEnum):
    """Why a condition has its status. MEANINGS has a sentence for each."""

    ACCEPTED = "Accepted"
    INVALID = "Invalid"
    OBJECT_NOT_FOUND = "ObjectNotFound"
    REFUSED = "Refused"
    NAME_TAKEN = "NameTaken"
    DESTINATION_TAKEN = "DestinationTaken"
    WAITING = "Waiting"
    SOURCE_NOT_TRAINED = "SourceNotTrained"
    SOURCE_FAILED = "SourceFailed"
    STARTING = "Starting"
    RUNNING = "Running"
    RESTARTING = "Restarting"
    SUSPENDED = "Suspended"
    QUEUED = "Queued"
    SUCCEEDED = "Succeeded"
    ANSWERS_DIFFER = "AnswersDiffer"
    BUDGET_SPENT = "BudgetSpent"
    BUDGET_TOO_SMALL = "BudgetTooSmall"
    DISABLED = "Disabled"
    SERVING = "Serving"
    SCALED_TO_ZERO = "ScaledToZero"
    ASLEEP = "Asleep"
    RELEASED = "Released"
    GATE_NOT_MET = "GateNotMet"
    PROMOTED_BY_HAND = "PromotedByHand"
    PINNED = "Pinned"
    SECRET_NOT_FOUND = "SecretNotFound"
    SECRET_KEY_NOT_FOUND = "SecretKeyNotFound"
    CONTAINER_NOT_CREATED = "ContainerNotCreated"
    IMAGE_NOT_PULLED = "ImageNotPulled"
    VOLUME_PENDING = "VolumePending"
    UNSCHEDULABLE = "Unschedulable"
    ACCELERATORS_IN_USE = "AcceleratorsInUse"
    POD_NOT_CREATED = "PodNotCreated"
    MEMORY_LIMIT_EXCEEDED = "MemoryLimitExceeded"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    CONTAINER_FAILED = "ContainerFailed"
    ENGINE_FAILED = "EngineFailed"
    ENGINE_UNAVAILABLE = "EngineUnavailable"
    ENGINE_MISMATCH = "EngineMismatch"
    ADAPTER_NOT_LOADED = "AdapterNotLoaded"
    DATA_INVALID = "DataInvalid"
    SOURCE_NOT_FOUND = "SourceNotFound"
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    INTERNAL_ERROR = "InternalError"
    OUT_OF_MEMORY = "OutOfMemory"
    WORKSPACE_FULL = "WorkspaceFull"
    PEER_LOST = "PeerLost"
    INTERRUPTED = "Interrupted"
    DIVERGED = "Diverged"
    ACCESS_DENIED = "AccessDenied"
    CONFIG_INVALID = "ConfigInvalid"


MEANINGS: dict[Type, str] = {
    Type.ACCEPTED: "the manifest makes sense and everything that it names is there",
    Type.DATA_READY: "the model and the rows are fetched, checked, split and counted",
    Type.TRAINED: "the artifact of the current revision is complete",
    Type.PUBLISHED: "the artifact of the current revision is complete at output.destination",
    Type.MERGED: "the artifact of the current revision is a part of a copy of its base model (hosting.adapter: merged)",
    Type.HOSTED: "the current revision answers",
    Type.EVALUATED: "the current revision is measured against the base model, and meets the gate",
    Type.PROMOTED: "the stable Service points at the current revision",
    Type.AVAILABLE: "of an Engine: at least one pod answers",
    Type.READY: "everything that the manifest asks for is there; message names what is not",
    Type.RECONCILING: "work is under way",
    Type.STALLED: "the work failed or waits for you",
}

REASONS: dict[Reason, str] = {
    Reason.ACCEPTED: "nothing in the manifest stands in the way",
    Reason.INVALID: "the manifest breaks a rule of the schema that the API server did not enforce when it was applied",
    Reason.OBJECT_NOT_FOUND: (
        "a PersistentVolumeClaim, ConfigMap, Engine or FineTuneJob, or a revision of one, that the manifest names is "
        "not there"
    ),
    Reason.REFUSED: "the API server refused an object; the message has its words",
    Reason.NAME_TAKEN: "an object that the FineTuneJob or Engine needs a name for exists and belongs to something else",
    Reason.DESTINATION_TAKEN: "another FineTuneJob of the namespace publishes to the same place, and was there first",
    Reason.WAITING: "an earlier stage comes first",
    Reason.SOURCE_NOT_TRAINED: "the FineTuneJob that model.source names is not trained yet; the work begins once it is",
    Reason.SOURCE_FAILED: "the FineTuneJob that model.source names failed or waits for you; the message has its words",
    Reason.STARTING: "the stage's object is made, its pod is not running yet",
    Reason.RUNNING: "the stage is under way",
    Reason.RESTARTING: "the stage's object makes way for a new one",
    Reason.SUSPENDED: "spec.suspend is true, somebody has suspended the stage's Job, or `finetune run` was stopped",
    Reason.QUEUED: "Kueue has not admitted the stage's Job, or has stopped it; the message has Kueue's words",
    Reason.SUCCEEDED: "the stage is complete",
    Reason.ANSWERS_DIFFER: "the merged model answers otherwise than the adapter, which is served loaded in its place",
    Reason.BUDGET_SPENT: "the stage is complete, though not all was trained: training.budget was used up before",
    Reason.BUDGET_TOO_SMALL: "by an earlier revision the plan takes more than training.budget; the message has numbers",
    Reason.DISABLED: "the manifest does not ask for it, or it can't be had; the message says which",
    Reason.SERVING: "the endpoint answers, a FineTuneJob's with the current revision",
    Reason.SCALED_TO_ZERO: "no pod is asked for: spec.replicas of the Engine is 0",
    Reason.ASLEEP: (
        "the Engine has no pod, since nobody asked it for as long as spec.idleAfter says; a request to finetune-api, a "
        "FineTuneJob that needs it, or a scale wakes it"
    ),
    Reason.RELEASED: "the candidate was measured and is not to be served, so its pods and accelerators were given back",
    Reason.GATE_NOT_MET: "the tuned model misses evaluation.gate; the message says by how much, and against what",
    Reason.PROMOTED_BY_HAND: "the annotation finetune.dev/promote names this revision, whatever the gate says",
    Reason.PINNED: "the annotation finetune.dev/promote names another revision, which serves until it is removed",
    Reason.SECRET_NOT_FOUND: "a Secret that the manifest names is not in the namespace; the pod starts once it is",
    Reason.SECRET_KEY_NOT_FOUND: "a Secret lacks a key that the source needs; the pod starts once it is there",
    Reason.CONTAINER_NOT_CREATED: "the node could not create the container; the message has its words",
    Reason.IMAGE_NOT_PULLED: "the node could not pull the image",
    Reason.VOLUME_PENDING: "the workspace's claim is not bound",
    Reason.UNSCHEDULABLE: "no node has what the pod asks for",
    Reason.ACCELERATORS_IN_USE: "the serving revision holds the accelerators that the new one needs",
    Reason.POD_NOT_CREATED: "the API server refused the pod: a quota, a policy or an admission webhook",
    Reason.MEMORY_LIMIT_EXCEEDED: "the container was killed at its memory limit",
    Reason.DEADLINE_EXCEEDED: "the stage took longer than training.maxRuntime",
    Reason.CONTAINER_FAILED: "the container ended without a word of its own; the message has the end of its log",
    Reason.ENGINE_FAILED: "the engine does not start; the message has the end of its log",
    Reason.ENGINE_UNAVAILABLE: "no pod of the current revision is available",
    Reason.ENGINE_MISMATCH: (
        "the Engine that hosting.engine names serves another base model, or takes no such adapters; the message says "
        "which"
    ),
    Reason.ADAPTER_NOT_LOADED: "a pod of the Engine could not load the adapter; the message has its words",
    Reason.DATA_INVALID: "rows of the dataset are wrong; the message names file, line and fault",
    Reason.SOURCE_NOT_FOUND: "a model, dataset, revision, bucket or file does not exist",
    Reason.SOURCE_UNAVAILABLE: "the hub, the bucket or the candidate could not be reached",
    Reason.INTERNAL_ERROR: "a fault in the trainer (the message has its traceback) or in the operator (its log has it)",
    Reason.OUT_OF_MEMORY: "the memory is too small for this training, foreseen by prepare or found out twice by train",
    Reason.WORKSPACE_FULL: "the workspace volume is full",
    Reason.PEER_LOST: "a pod of a training on several nodes ended because another one was gone",
    Reason.INTERRUPTED: "the stage was stopped more often than training.retries",
    Reason.DIVERGED: "the loss became infinite or not a number",
    Reason.ACCESS_DENIED: "the hub or the bucket refused the credentials",
    Reason.CONFIG_INVALID: "the run config asks for something that this model or trainer can't do",
}

# What only repeats Ready.
KSTATUS = (Type.RECONCILING, Type.STALLED)

Status = Literal["True", "False", "Unknown"]
# Why something can't be, and the sentence that says so.
Objection = tuple[Reason, str]


def condition(kind: Type, status: Status, reason: Reason, message: str, generation: int, now: datetime) -> Condition:
    """A condition that would be new at `now`."""
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message,
        observed_generation=generation,
        last_transition_time=now.replace(microsecond=0),
    )


def merge(old: Iterable[Condition], new: Iterable[Condition]) -> list[Condition]:
    """The new conditions and kstatus's, with the old transition time wherever status did not change."""
    before = {found.type: found for found in old}
    told = [found for found in new if found.type not in KSTATUS]
    return [_keep_time(before.get(found.type), found) for found in (*told, *_kstatus(told))]


def _kstatus(told: Iterable[Condition]) -> Iterator[Condition]:
    """Ready in kstatus's words: nothing once it is True, nor while the user has suspended the work."""
    kinds = {"Unknown": Type.RECONCILING, "False": Type.STALLED}
    for found in told:
        if found.type == Type.READY and found.status in kinds and found.reason != Reason.SUSPENDED:
            yield found.model_copy(update={"type": kinds[found.status].value, "status": "True"})


def _keep_time(old: Condition | None, new: Condition) -> Condition:
    if old is None or old.status != new.status:
        return new
    return new.model_copy(update={"last_transition_time": old.last_transition_time})
