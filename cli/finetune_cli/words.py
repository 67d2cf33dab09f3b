"""What is said of a job in plain text: where it is, why, how far, and what is known of it. Pure, without a terminal.

`describe` and `progress` show it on a screen, the web page in HTML.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from finetune_operator.api.requests import EngineRequests
from finetune_operator.api.status import Endpoint, FineTuneJobStatus, PlanStatus, TrialStatus
from finetune_operator.conditions import Type
from finetune_trainer.contract.results import Progress, Trial, Usage

from finetune_cli.jobs import Job

MINUTE, HOUR, DAY = 60, 3600, 86400


def where(job: Job, now: datetime) -> str:
    """In one line, where it is."""
    status = job.status
    parts = [str(status.phase)]
    if status.revision:
        parts.append(f"revision {status.revision}")
    if status.progress:
        parts.append(detail(Progress.model_validate(status.progress.model_dump(exclude_none=True)), now))
    if status.served_revision and status.served_revision != status.revision:
        parts.append(f"revision {status.served_revision} serves")
    return " · ".join(parts)


def why(job: Job) -> str:
    """In one sentence, why it is there: Ready's, which names the stage that is not done."""
    ready = job.condition(Type.READY)
    if ready is None:
        return "No operator has looked at it yet; if that lasts, see whether one runs and watches this namespace."
    if job.status.observed_generation < job.generation:
        return "The operator has not looked at the manifest as it is now; if that lasts, see whether it runs."
    return f"{ready.message} ({ready.reason})"


def detail(progress: Progress, now: datetime) -> str:
    """What a stage is doing, in one line: its activity until there is a loss, then step, loss, speed and time left."""
    trial = [f"trial {progress.trial}/{progress.trials}"] if progress.trial else []
    if progress.loss is None:
        count = f" {progress.step}/{progress.total_steps}" if progress.step else ""
        return " · ".join([*trial, f"{progress.activity or 'starting'}{count}"])
    parts = [*trial, f"step {progress.step}/{progress.total_steps}", f"loss {progress.loss:.3f}"]
    if progress.validation_loss is not None:
        parts.append(f"validation {progress.validation_loss:.3f}")
    if progress.validation_reward_accuracy is not None:
        parts.append(f"prefers {progress.validation_reward_accuracy:.0%} of the chosen answers")
    if progress.tokens_per_second is not None:
        parts.append(f"{progress.tokens_per_second:,.0f} tokens/s")
    if progress.eta is not None and progress.step < progress.total_steps:
        parts.append(f"{clock((progress.eta - now).total_seconds())} left")
    return " · ".join(parts)


def shortened(text: str, most: int) -> str:
    """A text in one line, and no more of it than so many characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[:most]}…"


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours when there are any."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def facts(status: FineTuneJobStatus) -> Iterator[tuple[str, str]]:
    """What is known of model, data and result, each with its name; one without a name goes on with the one before."""
    if model := status.model:
        origin = f", commit {model.commit}" if model.commit else f", from {model.lineage[0]}" if model.lineage else ""
        yield "Model", f"{model.parameters:,} parameters, context {model.context_length:,}{origin}"
    if data := status.dataset:
        rows = data.rows
        yield "Data", f"{rows.train:,} rows to train on, {rows.validation:,} validation, {rows.test:,} test"
        yield "", f"{data.tokens:,} tokens, the longest row {data.longest:,}; format {data.format}"
    if status.plan:
        yield from _plan(status.plan)
    if usage := status.usage:
        held = f", {usage.accelerator_seconds / HOUR:.2f} accelerator hours" if usage.accelerator_seconds else ""
        yield "Took", f"{usage.trained_tokens:,} tokens in {span(usage.seconds)}{held}"
    if status.artifact:
        yield "Artifact", f"{status.artifact.uri} ({status.artifact.bytes / 1e6:.1f} MB)"
    if status.tracking and status.tracking.url:
        yield "Tracking", status.tracking.url
    if status.endpoint:
        yield from _endpoint(status.endpoint, status)


def _endpoint(endpoint: Endpoint, status: FineTuneJobStatus) -> Iterator[tuple[str, str]]:
    """A shared Engine, and a laptop, tell of no pods."""
    yield "Endpoint", f"{endpoint.url}, model {endpoint.model}"
    if status.available_replicas is not None:
        yield "", f"{status.available_replicas} of {status.replicas} pods answer{_busy(status.requests)}"


def _busy(requests: EngineRequests | None) -> str:
    if requests is None:
        return ""
    cache = f", {float(requests.cache_used):.0%} of the cache taken" if requests.cache_used else ""
    return f"; {requests.running} requests under way, {requests.waiting} waiting{cache}"


def _plan(plan: PlanStatus) -> Iterator[tuple[str, str]]:
    yield (
        "Plan",
        f"{plan.total_steps:,} steps of {plan.batch_size} rows, at most {plan.max_length:,} tokens a row, "
        f"learning rate {plan.learning_rate}, {plan.estimated_memory} of memory",
    )
    for field, reason in plan.reasons.items():
        yield "", f"{field}: {reason}"


def age(since: datetime, now: datetime) -> str:
    """How long ago, in the two units that matter."""
    return span(max(0, round((now - since.astimezone(UTC)).total_seconds())))


def span(seconds: int) -> str:
    """So many seconds in the two units that matter."""
    for unit, name, below, smaller in ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "m"), (MINUTE, "m", 1, "s")):
        if seconds >= unit:
            rest = seconds % unit // below
            return f"{seconds // unit}{name}{f'{rest}{smaller}' if rest else ''}"
    return f"{seconds}s"


def of_status(told: TrialStatus) -> Trial:
    """A trial as status has it."""
    took = told.trained_tokens is not None and told.seconds is not None
    return Trial(
        number=told.number,
        parameters={name: float(value) for name, value in told.parameters.items()},
        outcome=told.outcome,
        message=told.message or "",
        validation_loss=None if told.validation_loss is None else float(told.validation_loss),
        usage=Usage(trained_tokens=told.trained_tokens or 0, seconds=told.seconds or 0) if took else None,
        taken=told.taken,
    )
