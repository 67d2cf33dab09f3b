"""What the operator asks of the API server, counted with many FineTuneJobs: `make benchmark-operator`, small.

Counts alone, never times: they are the same on any machine. Pods are simulated by kwok, their controllers are real.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from many import Followed, Many
from scale import Ground, ground
from tally import Tally

COUNT = 50
WITHIN = 600


@dataclass
class Served:
    """FineTuneJobs that have gone through all stages, and what that took."""

    ground: Ground
    many: Many
    path: Tally
    transitions: int


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with ground(tmp_path_factory.mktemp("scale") / "cluster") as found:
        many, followed = Many(found.cluster, "many"), Followed(found.cluster, "many")
        many.create(range(COUNT))
        found.first_look(COUNT, WITHIN)
        found.cluster.work()
        assert followed.all_in("Serving", COUNT, WITHIN), f"{followed.phases}\n{found.operator.log()}"
        found.operator.settle()
        found.cluster.pause()
        yield Served(found, many, found.log.since(), followed.transitions.total())
        print(found.operator.log())


def test_a_transition_costs_one_status_write_at_most(served: Served) -> None:
    assert served.path.status_writes <= served.transitions, served.path


def test_each_object_is_written_once_and_each_entry_of_a_record(served: Served) -> None:
    writes = len(served.path.object_writes)
    assert writes <= len(served.path.made) + served.many.entries(), served.path


def test_on_the_way_no_more_is_read_than_made(served: Served) -> None:
    """A name is looked at before an object of it is made; what was made is known from watches."""
    assert served.path.reads <= len(served.path.made), served.path


def test_at_rest_a_look_reads_and_writes_nothing(served: Served) -> None:
    looks, asked = served.ground.touch(served.many, range(COUNT), WITHIN)
    assert looks >= COUNT
    assert (asked.reads, len(asked.writes)) == (0, 0), asked


def test_a_restart_writes_nothing(served: Served) -> None:
    asked = served.ground.restart(COUNT, WITHIN)
    assert served.ground.operator.known() == COUNT
    assert len(asked.writes) == 0, asked


def test_a_second_look_that_nothing_called_for_writes_nothing(served: Served) -> None:
    looks, asked = served.ground.second_looks(COUNT, every=3, seconds=WITHIN)
    assert looks >= COUNT
    assert len(asked.writes) == 0, asked
