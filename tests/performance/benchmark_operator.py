"""What the operator costs with many FineTuneJobs: 2,000 at once through all stages, and 10,000 at rest.

`make benchmark-operator` runs it and prints one table. Three clusters of their own, one after another: a real API
server over etcd, the real controllers where pods are made, kwok in place of nodes (`simulated`), and the operator as a
process under the chart's rights.

- *active*: the FineTuneJobs are there when the operator starts; Jobs are made so many a second, by the API server's
  clock. Then controllers and kwok start, and all go through prepare, train, host and, one in ten, evaluate.
- *bare*: the writes that the operator made for one FineTuneJob up to its Job, sent for as many by a bare loop of the
  same client library: what this API server does by itself on this machine.
- *rest*: one FineTuneJob goes through all stages, and is multiplied in etcd (`copies`), with four pods each.

Requests are counted in the API server's audit log, reconciles are the operator's own metric. What isn't reached within
the time limit is said to be so.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / part) for part in ("tests", "tests/contract", "tests/unit/operator")]

from control_plane import RECORDED  # noqa: E402
from copies import multiply  # noqa: E402
from many import Followed, Many  # noqa: E402
from scale import BARE, Ground, ground  # noqa: E402
from tally import AuditLog, Call, Tally  # noqa: E402

RATE, SHARE, SECONDS, MEGABYTES = 100, 0.9, 30, 250


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    measured: str
    goal: str = ""


@dataclass(frozen=True)
class Sizes:
    """How many, and for how many seconds at most."""

    active: int
    rest: int
    limit: float


def recorded(ground: Ground) -> list[Call]:
    """What the operator writes for one FineTuneJob until its Job stands, with the bodies."""
    ground.operator.start()
    one = Many(ground.cluster, RECORDED)
    one.create([1])
    ground.operator.eventually(lambda: ground.operator.known() == 1)
    ground.operator.settle()
    ground.operator.stop()
    ground.cluster.admin("delete", "finetunejobs", "--all", f"--namespace={RECORDED}")
    return ground.log.since().writes


def active(ground: Ground, sizes: Sizes) -> tuple[list[Row], list[Call], float]:
    """Through all stages; the writes and the rate to hold against a bare loop's."""
    count, cluster, operator = sizes.active, ground.cluster, ground.operator
    writes = recorded(ground)
    followed = Followed(cluster, "active")
    many = Many(cluster, "active")
    many.create(range(count))
    say(f"{count} FineTuneJobs wait for the operator")
    ground.first_look(count, sizes.limit)
    begun = ground.log.since()
    say("controllers and pods start")
    cluster.work()
    began = time.monotonic()
    followed.all_in("Serving", count, sizes.limit)
    took = time.monotonic() - began
    serving = list(followed.phases.values()).count("Serving")
    whole = Tally([*begun.calls, *ground.log.since().calls])
    transitions, entries = followed.transitions.total(), many.entries()
    rows = [
        Row("through all stages", f"{serving:,} of {count:,} serve after {took:.0f} s"),
        Row("status writes per transition", ratio(whole.status_writes, transitions), "≤ 1"),
        Row(
            "writes per object or entry of a record", ratio(len(whole.object_writes), len(whole.made) + entries), "≤ 1"
        ),
        Row("Events per transition", ratio(whole.events, transitions)),
        Row("reads per FineTuneJob", ratio(whole.reads, count)),
        Row("memory then", f"{operator.memory():.0f} MB"),
    ]
    return rows, writes, begun.jobs_per_second()


def bare(ground: Ground, writes: list[Call], count: int) -> float:
    """Jobs a second of the bare loop."""
    many = Many(ground.cluster, "bare")
    many.create(range(count))
    log = AuditLog(ground.cluster.audit, BARE.name)
    log.since()
    many.replay(writes, BARE.name)
    return log.since().jobs_per_second()


def rest(ground: Ground, sizes: Sizes) -> list[Row]:
    """Ten thousand that need nothing."""
    cluster, operator, count = ground.cluster, ground.operator, sizes.rest
    operator.start()
    followed, many = Followed(cluster, RECORDED), Many(cluster, RECORDED)
    cluster.work()
    many.create([0])
    assert followed.all_in("Serving", 1, 120), f"it doesn't get there: {followed.phases}\n{operator.log()}"
    operator.settle()
    operator.stop()
    cluster.pause()
    multiply(cluster.etcd, ground.log.since().writes, count)
    listed = cluster.request("GET", f"/api/v1/namespaces/{RECORDED}/pods?limit=1")["metadata"]
    pods = 1 + listed["remainingItemCount"]
    cluster.catch_up()
    say(f"{count} FineTuneJobs at rest; the operator starts")
    ground.log.since()
    took = ground.first_look(count, sizes.limit)
    looked = operator.known()
    operator.settle()
    started = ground.log.since()
    memory, most = operator.memory(), operator.memory("VmHWM")
    say(f"it has looked at {looked:.0f}; now each of some is changed by something of no matter")
    looks, touched = ground.touch(many, range(min(count, sizes.active)), sizes.limit)
    say("it looks at all again, by itself")
    again, resynced = ground.second_looks(count, max(5, count / 100), sizes.limit)
    return [
        Row("restart until all looked at", f"{looked:,.0f} of {count:,} in {took:.1f} s", f"≤ {SECONDS} s"),
        Row("writes on restart", str(len(started.writes)), "0"),
        Row("reads on restart", str(started.reads)),
        Row("memory", f"{memory:.0f} MB with {pods:,} pods; {most:.0f} at most", f"≤ {MEGABYTES} MB"),
        Row("reads per reconcile at rest", ratio(touched.reads, looks), "0"),
        Row("writes per reconcile at rest", ratio(len(touched.writes), looks), "0"),
        Row("writes on resync", f"{len(resynced.writes)} in {again:,.0f} looks", "0"),
        Row("reads on resync", f"{resynced.reads} in {again:,.0f} looks"),
    ]


def ratio(number: float, of: float) -> str:
    """`number` for each."""
    return f"{number / of:.2f} ({number:,.0f} / {of:,.0f})" if of else "-"


def say(what: str) -> None:
    """Tell what goes on; the table comes at the end."""
    print(f"  … {what}", file=sys.stderr, flush=True)


def table(rows: list[Row]) -> str:
    """The rows, aligned."""
    heading = Row("", "measured", "goal")
    widths = [max(len(getattr(row, name)) for row in [heading, *rows]) for name in ("what", "measured")]
    return "\n".join(
        f"{row.what:{widths[0]}}  {row.measured:{widths[1]}}  {row.goal}".rstrip() for row in [heading, *rows]
    )


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--active", type=int, default=2000, help="FineTuneJobs through all stages")
    parser.add_argument("--rest", type=int, default=10_000, help="FineTuneJobs at rest")
    parser.add_argument("--limit", type=float, default=900, help="seconds for each step at most")
    sizes = Sizes(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        with ground(root / "active") as here:
            rows, writes, rate = active(here, sizes)
        with ground(root / "bare") as here:
            possible = bare(here, writes, sizes.active)
        with ground(root / "rest") as here:
            rows += rest(here, sizes)
    goal = f"≥ {RATE}, or ≥ {SHARE} of the bare loop's"
    compared = f"{rate:.0f}; a bare loop: {possible:.0f}; {rate / possible:.2f} of it"
    print(table([Row("Jobs made a second", compared, goal), *rows]))


if __name__ == "__main__":
    main()
