"""Whatever goes wrong at whatever moment, a FineTuneJob ends where an undisturbed one ends.

A life is lived once in peace, then once for every fault and share of its points: in each, every point of that share
goes wrong. The shares of a fault together are every write (or every watch event) of the life. `make faults` takes all
shares of a whole life; `make test` takes one share of each fault, of a short life.
"""

import asyncio
import itertools
import json
import os
import sys
import zlib
from concurrent.futures import Future
from dataclasses import dataclass
from difflib import unified_diff

import pytest
from api_client import Raw
from fault_proxy import OF_EVENTS, Decide, Fault, Point
from ground import Ground, Space
from life import MADE, PATIENCE_SECONDS, SHORT, WHOLE, Life, Outcome, Step, foreign, untouched

ALL = os.environ.get("FINETUNE_FAULTS") == "all"
LIFE = WHOLE if ALL else SHORT
SIDE_BY_SIDE = 6
# A refusal is tried again after a minute, an answer that never comes is given up after half of one, and a Job
# controller that has lost count waits for five.
STEP_SECONDS = PATIENCE_SECONDS + 120
# Into how many shares the points of a life are divided; fewer points at a time where each costs so much time.
SHARES = dict.fromkeys(Fault, 4) | {Fault.FORBIDDEN: 16, Fault.ANSWER_NEVER: 16, Fault.EVENT_DROPPED: 8}
# In the sample these happen once, or it would take minutes.
SLOW = (Fault.FORBIDDEN, Fault.ANSWER_NEVER)
QUIET_SECONDS = 4.0


@dataclass(frozen=True)
class Case:
    """One fault at one share of the points."""

    fault: Fault
    share: int

    def __call__(self, point: Point) -> Fault | None:
        """Whether this point goes wrong, and how."""
        ours = point.event == (self.fault in OF_EVENTS)
        return self.fault if ours and zlib.crc32(str(point).encode()) % SHARES[self.fault] == self.share else None

    def __str__(self) -> str:
        return f"{self.fault.value}-{self.share + 1}of{SHARES[self.fault]}"


def in_time(case: Case) -> Decide:
    """The case; of slow faults in the sample only the first."""
    happens = itertools.count(1)
    most = 1 if case.fault in SLOW and not ALL else sys.maxsize

    def decide(point: Point) -> Fault | None:
        fault = case(point)
        return fault if fault and next(happens) <= most else None

    return decide


CASES = [Case(fault, share) for fault in Fault for share in range(SHARES[fault] if ALL else 1)]


@dataclass(frozen=True)
class Lived:
    """What became of a life: what differs from an undisturbed one, and what went wrong in it."""

    complaint: str
    spoilt: int


async def live(life: Life, step: Step) -> None:
    """Take one step, as far as it has to lead."""
    life.space.proxy.step = step.name
    await step.act(life)
    await life.space.mirror.until(life.space.name, lambda: step.reached(life), STEP_SECONDS)


async def settled(space: Space) -> None:
    """Wait until what is on its way out is gone, and nothing has changed for a while."""
    await space.mirror.until(space.name, lambda: not any(map(_going, space.mirror.all(space.name, *MADE, "Pod"))))
    async with asyncio.timeout(STEP_SECONDS):
        while await space.mirror.changes(space.name, within=QUIET_SECONDS):
            pass


def _going(raw: Raw) -> bool:
    return "deletionTimestamp" in raw["metadata"]


async def undisturbed(ground: Ground) -> dict[str, Outcome]:
    """What is there after each step when nothing goes wrong."""
    found = {}
    async with ground.space() as space:
        space.operator.start()
        life = Life(space)
        for step in LIFE:
            try:
                await live(life, step)
                await settled(space)
            except TimeoutError:
                raise AssertionError(_complaint(life, step, {})) from None
            found[step.name] = life.outcome()
    return found


async def disturbed(ground: Ground, case: Case, calm: dict[str, Outcome]) -> Lived:
    """The same life with faults; each step has to end as it did in peace."""
    async with ground.space(in_time(case)) as space:
        theirs = [await space.api.create(raw, space.name) for raw in foreign()]
        space.operator.start()
        life = Life(space)
        for step in LIFE:
            try:
                await live(life, step)
                same = lambda: life.outcome() == calm[step.name]  # noqa: E731, B023
                await space.mirror.until(space.name, same, STEP_SECONDS)
            except TimeoutError:
                return Lived(_complaint(life, step, calm[step.name]), len(space.proxy.spoilt))
        changed = list(untouched(theirs, space))
        return Lived("\n".join(f"somebody else's {what}" for what in changed), len(space.proxy.spoilt))


def _complaint(life: Life, step: Step, calm: Outcome) -> str:
    lines = (json.dumps(found, indent=1).splitlines() for found in (calm, life.outcome()))
    wrong = "\n".join(f"{fault.value} at {point}" for point, fault in life.space.proxy.spoilt)
    differences = "\n".join(unified_diff(*lines, "undisturbed", "disturbed", n=4, lineterm=""))
    end = life.space.operator.log()[-4000:]
    return f"{step.name} does not end as it should:\n{differences}\n--- what went wrong:\n{wrong}\n--- log:\n{end}"


@pytest.fixture(scope="module")
def calm(ground: Ground) -> dict[str, Outcome]:
    """An undisturbed life."""
    return ground.run(undisturbed(ground))


@pytest.fixture(scope="module")
def lives(ground: Ground, calm: dict[str, Outcome], request: pytest.FixtureRequest) -> dict[Case, Future[Lived]]:
    """The lives of all the cases that this session asks for, some side by side."""
    places = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(case: Case) -> Lived:
        async with places:
            found = await disturbed(ground, case, calm)
            print("LIVED", case, found.spoilt, found.complaint[:6000], flush=True)
            return found

    wanted = [item.callspec.params["case"] for item in request.session.items if item.path == request.path]
    return {case: ground.submit(one(case)) for case in wanted}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_ends_where_an_undisturbed_life_ends(case: Case, lives: dict[Case, Future[Lived]]) -> None:
    lived = lives[case].result()
    assert lived.complaint == ""
    assert lived.spoilt > 0
