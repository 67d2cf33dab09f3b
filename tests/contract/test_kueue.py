"""Training that is queued, with the real Kueue and the real Job controller: who waits, who runs, who is stopped.

Quotas are for one training at a time. The nodes are played, and what trains is so too, but for the one story in which
the trainer's own program does.
"""

import asyncio
import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import OPERATOR, new_ground
from control_plane import PATIENCE
from finetune_trainer.contract.outcome import Outcome
from ground import Ground, Space
from kueue import Kueue
from life import Life
from node import Ending
from paths import EXAMPLES, ROOT
from rehearsal import MANIFEST
from working_node import Program, WorkingNode

API = "kueue.x-k8s.io/v1beta2"
NO_QUOTA = "insufficient unused quota for nvidia.com/gpu in flavor any, 1 more needed"

TINY = ROOT / ".cache/models/tiny-smollm2"
# Of the pod that trains.
ADDRESS = "127.0.78.2"
# Many more than it gets to, and as many as are told one by one.
STEPS = 500
# What the real trainer is given, in a volume of its user's.
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "given"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}
LONG = {
    "model": {"source": "pvc://given/model"},
    "dataset": {"train": {"source": "pvc://given/train.jsonl"}},
    "hosting": {"enabled": False},
}


@pytest.fixture(scope="module")
def queues(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A ground with Kueue."""
    with new_ground(tmp_path_factory.mktemp("queues")) as found:
        Kueue(found.plane).start()
        kubectl = found.kubectl()
        kubectl("apply", "-f-", document=made("ResourceFlavor", "any", {}))
        kubectl("apply", "-f-", document=made("WorkloadPriorityClass", "urgent") | {"value": 100, "description": "now"})
        yield found


def made(kind: str, name: str, spec: Any = None) -> dict[str, Any]:
    found = {"apiVersion": API, "kind": kind, "metadata": {"name": name}}
    return found if spec is None else found | {"spec": spec}


async def apply(space: Space, document: dict[str, Any]) -> None:
    await asyncio.to_thread(functools.partial(space.kubectl, "apply", "-f-", document=document))


async def queue(space: Space, name: str = "team-a") -> None:
    """A LocalQueue with quota for one accelerator; who is more urgent takes it from others."""
    resources = [{"name": "nvidia.com/gpu", "nominalQuota": 1}, {"name": "memory", "nominalQuota": "1Ti"}]
    group = {
        "coveredResources": [found["name"] for found in resources],
        "flavors": [{"name": "any", "resources": resources}],
    }
    spec = {
        "namespaceSelector": {},
        "preemption": {"withinClusterQueue": "LowerPriority"},
        "resourceGroups": [group],
    }
    await apply(space, made("ClusterQueue", space.name, spec))
    await apply(space, made("LocalQueue", name, {"clusterQueue": space.name}))
    # Kueue knows of it: a Job that comes before that goes by without.
    active = ("wait", f"localqueue/{name}", "--for=condition=Active", f"--timeout={PATIENCE}s")
    await asyncio.to_thread(space.kubectl, *active)


def training(**more: Any) -> dict[str, Any]:
    return {"training": MANIFEST["training"] | {"queue": "team-a"} | more}


async def two(space: Space, **of_second: Any) -> tuple[Life, Life]:
    """The first one trains when the second one comes."""
    space.operator.start()
    first, second = Life(space, "first"), Life(space, "second")
    space.node.endings |= {("first", "train"): Ending.HOLD, ("second", "train"): Ending.HOLD}
    await first.create(**training())
    await first.until(trains)
    await second.create(**training(**of_second))
    return first, second


def trains(life: Life) -> bool:
    return life.condition("Trained") == ("Unknown", "Running")


def waits(life: Life) -> bool:
    """Whether it waits for quota and holds no pod."""
    pods = life.space.mirror.all(life.space.name, "Pod")
    held = [pod for pod in pods if pod["metadata"]["name"].startswith(f"{life.name}-{life.revision}-train")]
    return life.condition("Trained") == ("Unknown", "Queued") and NO_QUOTA in life.message("Trained") and not held


async def finish(life: Life) -> None:
    """Its training ends well."""
    life.space.node.endings[life.name, "train"] = Ending.SUCCEED
    await life.space.node.tick()
    await life.until(lambda life: life.serves)


def writes(ground: Ground, space: Space) -> list[str]:
    """What the operator has changed of Jobs that are there."""
    calls = (call for call in ground.plane.calls(OPERATOR.name) if call.get("objectRef", {}).get("resource") == "jobs")
    mine = (call for call in calls if call["objectRef"].get("namespace") == space.name)
    return [call["verb"] for call in mine if call["verb"] in ("patch", "update")]


def test_one_trains_and_the_next_waits_for_its_quota(queues: Ground) -> None:
    async def told() -> None:
        async with queues.space() as space:
            await queue(space)
            first, second = await two(space)
            await second.until(waits)
            assert second.job
            assert second.job["status"]["phase"] == "Queued"
            await finish(first)
            await second.until(trains)
            await finish(second)
            assert writes(queues, space) == []

    queues.run(told())


def test_what_is_preempted_is_not_started_again_by_the_operator_and_goes_on_when_kueue_lets_it(queues: Ground) -> None:
    async def told() -> None:
        async with queues.space() as space:
            await queue(space)
            first, second = await two(space, pod={"labels": {"kueue.x-k8s.io/priority-class": "urgent"}})
            await second.until(trains)
            stopped = "Kueue stopped it (Preempted to accommodate a workload"
            await first.until(lambda life: waits(life) and stopped in life.message("Trained"))
            await finish(second)
            await first.until(trains)
            await finish(first)
            assert writes(queues, space) == []

    queues.run(told())


def step(life: Life) -> int:
    """The one that status tells of what trains."""
    progress = ((life.job or {}).get("status") or {}).get("progress") or {}
    return int(progress.get("step", 0)) if progress.get("stage") == "train" else 0


def steps_until_stopped(program: Program) -> int:
    """How many steps it made until it was asked to stop, and did."""
    assert program.code == Outcome.INTERRUPTED.exit.code, program.log
    return sum("'loss'" in line for line in program.log.splitlines())


def test_a_trainer_that_is_preempted_goes_on_from_the_checkpoint_that_its_stop_made(
    queues: Ground, tmp_path: Path
) -> None:
    """The trainer's own program, as the Job's pods start it, on a node that ends it as the kubelet does."""
    assert TINY.is_dir(), f"{TINY} is missing; `make model` makes it"

    async def told() -> None:
        async with queues.space(node=WorkingNode, progress_seconds=1) as space:
            node = space.node
            assert isinstance(node, WorkingNode)
            node.work("first", tmp_path, ADDRESS)
            with node:
                await queue(space)
                await apply(space, CLAIM)
                shutil.copytree(TINY, node.claim("given") / "model")
                rows = (EXAMPLES / "recipe-assistant/train.jsonl").read_text().splitlines(keepends=True)
                (node.claim("given") / "train.jsonl").write_text("".join(rows[:64]))
                space.operator.start()
                first, second = Life(space, "first"), Life(space, "second")
                await first.create(**LONG | training(maxSteps=STEPS, batchSize=32, maxLength=128))
                await first.until(lambda life: step(life) >= 2)
                await second.create(**training(pod={"labels": {"kueue.x-k8s.io/priority-class": "urgent"}}))
                await second.until(lambda life: life.serves)
                await first.until(lambda life: len(node.of("train")) == 2)
                before, after = node.of("train")
                kept = checkpoint(node, first)
                assert steps_until_stopped(before) == kept > 0
                await first.until(lambda life: step(life) > kept)
                await first.edit(suspend=True)
                await first.until(lambda life: after.code is not None)
                assert steps_until_stopped(after) == checkpoint(node, first) - kept

    queues.run(told())


def checkpoint(node: WorkingNode, life: Life) -> int:
    """The step of the last one; 0 where there is none."""
    kept = node.claim(f"{life.name}-{life.revision}").glob("checkpoints/checkpoint-*")
    return max((int(path.name.removeprefix("checkpoint-")) for path in kept), default=0)


def test_suspended_it_leaves_its_quota_to_the_next_and_resumed_it_waits(queues: Ground) -> None:
    async def told() -> None:
        async with queues.space() as space:
            await queue(space)
            first, second = await two(space)
            await second.until(waits)
            await first.edit(suspend=True)
            await second.until(trains)
            await first.until(lambda life: life.condition("Trained") == ("Unknown", "Suspended"))
            await first.until(lambda life: life.of(life.revision, "Job", "train") is None)
            await first.edit(suspend=False)
            await first.until(waits)
            await finish(second)
            await first.until(trains)

    queues.run(told())


def test_a_queue_that_is_not_there_is_named_and_the_training_goes_on_once_it_is(queues: Ground) -> None:
    async def told() -> None:
        async with queues.space() as space:
            space.operator.start()
            life = Life(space)
            await life.create(**training())
            await life.until(lambda life: life.condition("Trained") == ("False", "Queued"))
            assert "Kueue says: LocalQueue team-a doesn't exist. Mend the queue" in life.message("Trained")
            await queue(space)
            await life.until(lambda life: life.serves)

    queues.run(told())


def test_a_namespace_whose_queue_takes_every_job_has_its_jobs_admitted(queues: Ground) -> None:
    """Kueue puts a LocalQueue named default on Jobs without one."""

    async def told() -> None:
        async with queues.space() as space:
            await queue(space, "default")
            space.operator.start()
            life = Life(space)
            await life.create(training=MANIFEST["training"])
            await life.until(lambda life: life.serves)
            job = life.of(life.revision, "Job", "prepare")
            assert job
            assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "default"
            assert writes(queues, space) == []

    queues.run(told())


def test_a_sweep_is_admitted_with_all_its_pods_or_none_and_goes_on_after_a_suspension(queues: Ground) -> None:
    def sweep(pods: int) -> dict[str, Any]:
        found = {"sweep": {"parameters": {"learningRate": [1e-4, 3e-4]}, "parallel": pods}}
        return {"training": training()["training"] | found, "workspace": {"accessModes": ["ReadWriteMany"]}}

    async def told() -> None:
        async with queues.space() as space:
            await queue(space)
            space.operator.start()
            life = Life(space)
            space.node.endings["train"] = Ending.HOLD
            await life.create(**sweep(2))
            await life.until(lambda life: "request (2) > maximum capacity (1)" in life.message("Trained"))
            await life.edit(**sweep(1))
            await life.until(trains)
            await life.edit(suspend=True)
            await life.until(lambda life: life.of(life.revision, "Job", "train") is None)
            await life.edit(suspend=False)
            await life.until(trains)
            await life.plays(train=Ending.SUCCEED)
            await life.until(lambda life: life.serves)
            assert writes(queues, space) == []

    queues.run(told())
