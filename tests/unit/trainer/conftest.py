"""How hypothesis runs here, and an evaluation that is ready to begin."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from evaluating import Case

# A busy machine is no fault of a row, and a run's examples are those of the run before.
settings.register_profile("unit", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")


@pytest.fixture
def case(tmp_path: Path) -> Iterator["Case"]:
    # Most tests here measure nothing, and the stage takes a second to import.
    from evaluating import Case, reply
    from small_engine import Engine, running

    with running(Engine(reply)) as engine:
        yield Case(tmp_path, engine)
