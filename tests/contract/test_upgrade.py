"""Another release's operator takes over from one while FineTuneJobs stand everywhere: it starts and rolls nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from api_client import Raw
from finetune_operator import names
from life import ALL, GATED, MADE, Life
from node import Ending
from test_findings import SEVEN, story
from test_shared import CHAT

# What a chart sets otherwise whenever its version changes.
NEXT = {
    "trainer_image": "finetune.dev/trainer:99.0.0",
    "hosting_image": "vllm/vllm-openai:v99.0.0",
    "hosting_cpu_image": "finetune.dev/vllm-cpu:99.0.0",
}
FINALIZER = "example.com/audited"
REFUSED = GATED | {"evaluation": {"enabled": True, "gate": {"minimum": 0.99}}}


@dataclass(frozen=True)
class State:
    """Where a FineTuneJob stands: what its manifest has beside the usual, what its stages' pods do, the condition that
    tells of it, and what a person does before, and afterwards.
    """

    condition: tuple[str, ...]
    spec: Raw = field(default_factory=dict)
    endings: dict[str, Ending] = field(default_factory=dict)
    before: Callable[[Life], Awaitable[None]] | None = None
    afterwards: Callable[[Life], Awaitable[None]] | None = None


async def suspend(life: Life) -> None:
    await life.until(lambda life: life.condition("Trained")[1] == "Running")
    await life.edit(suspend=True)


async def go_back(life: Life) -> None:
    """To the revision before, by hand."""
    await life.until(lambda life: life.serves)
    before = life.revision
    await life.edit(training=SEVEN)
    await life.until(lambda life: life.serves)
    await life.patch(metadata={"annotations": {names.PROMOTE: before}})
    await life.until(lambda life: life.served == before)


async def delete(life: Life) -> None:
    await life.patch(metadata={"finalizers": [FINALIZER]})
    await life.delete()
    await life.until(lambda life: life.job is not None and "deletionTimestamp" in life.job["metadata"])


async def its_engine_is_gone(life: Life) -> None:
    """The one of the newest revision, which does not serve."""
    await life.until(lambda life: life.of(life.revision, "Deployment") is None)


async def its_jobs_are_gone(life: Life) -> None:
    await life.until(lambda life: life.of(life.revision, "Job", "train") is None)


# The engine of "hosting" does not start.
STATES = {
    "preparing": State(("DataReady", "Unknown", "Running"), endings={"prepare": Ending.HOLD}),
    "training": State(("Trained", "Unknown", "Running"), endings={"train": Ending.HOLD}),
    "hosting": State(("Hosted", "Unknown", "Running")),
    "evaluating": State(("Evaluated", "Unknown", "Running"), ALL, endings={"evaluate": Ending.HOLD}),
    "refused": State(("Evaluated", "False", "GateNotMet"), REFUSED, afterwards=its_engine_is_gone),
    "failed": State(("Trained", "False"), endings={"train": Ending.FAIL}),
    "suspended": State(("Trained", "Unknown", "Suspended"), endings={"train": Ending.HOLD}, before=suspend),
    "serving": State(("Ready", "True"), GATED),
    "at-rest": State(("Ready", "True"), {"ttlAfterFinished": "1s"}, afterwards=its_jobs_are_gone),
    "gone-back": State(("Ready", "True"), before=go_back, afterwards=its_engine_is_gone),
    "not-hosted": State(("Ready", "True"), {"hosting": {"enabled": False}}),
    "deleted": State(("Ready", "True"), afterwards=delete),
}
UNDER_WAY = ("preparing", "training", "hosting", "evaluating")


def stands(life: Life) -> bool:
    kind, *told = STATES[life.name].condition
    return life.condition(kind)[: len(told)] == tuple(told)


async def bring_about(life: Life) -> None:
    """The state that a FineTuneJob is called by."""
    state = STATES[life.name]
    life.space.node.endings |= {(life.name, stage): ending for stage, ending in state.endings.items()}
    await life.create(**state.spec)
    if state.before:
        await state.before(life)
    await life.until(stands)
    if state.afterwards:
        await state.afterwards(life)


def standing(life: Life) -> dict[str, Raw]:
    """All objects of the namespace but status: who they are, and what they ask for."""
    made = life.space.mirror.all(life.space.name, *MADE, "Pod")
    return {
        f"{raw['kind']}/{raw['metadata']['name']}": {
            "uid": raw["metadata"]["uid"],
            # A pod's is a node's business, too.
            "spec": raw.get("spec") if raw["kind"] != "Pod" else None,
            "data": raw.get("data"),
        }
        for raw in made
    }


async def looked_at(life: Life) -> None:
    """An edit that changes nothing of what is made, and that the operator has seen."""
    await life.edit(ttlAfterFinished="9999h")
    await life.until(stands)


@story
async def test_whatever_state_jobs_are_in_an_upgrade_starts_nothing_and_rolls_no_engine(life: Life) -> None:
    space = life.space
    await space.api.create(CHAT, space.name)
    space.node.pulling.add(("hosting", "host"))
    space.operator.start()
    lives = [Life(space, name) for name in STATES]
    await asyncio.gather(*map(bring_about, lives))
    staying = [each for each in lives if each.name != "deleted"]
    before = standing(life)

    space.operator.kill()
    space.operator.set(**NEXT)
    space.operator.start()
    await asyncio.gather(*map(looked_at, staying))
    assert standing(life) == before

    # What was under way goes on, in the pods that it had, and what comes after it is the new release's.
    trained = {each.name: each.of(each.revision, "Job", "train") for each in staying}
    for stage in ("prepare", "train", "evaluate"):
        space.node.endings |= {(name, stage): Ending.SUCCEED for name in STATES}
    space.node.pulling.clear()
    await space.node.tick()
    for each in staying:
        if each.name in UNDER_WAY:
            await each.until(lambda life: life.serves)
    training = Life(space, "training").of(lives[1].revision, "Job", "train")
    assert training
    assert trained["training"]
    assert training["metadata"]["uid"] == trained["training"]["metadata"]["uid"]
    prepared = Life(space, "preparing").of(lives[0].revision, "Job", "train")
    assert prepared
    assert image(prepared) == NEXT["trainer_image"]

    suspended = next(each for each in lives if each.name == "suspended")
    await suspended.edit(suspend=False)
    await suspended.until(lambda life: life.serves)

    deleted = lives[-1]
    assert deleted.job
    await space.api.patch("FineTuneJob", space.name, deleted.name, {"metadata": {"finalizers": None}})
    await deleted.until(lambda life: life.job is None)


def image(job: Raw) -> str:
    return str(job["spec"]["template"]["spec"]["containers"][0]["image"])
