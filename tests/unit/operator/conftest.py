"""A cluster rehearsed in memory, before anything has happened in it and once a revision serves."""

import pytest
from rehearsal import Rehearsal


@pytest.fixture
def cluster() -> Rehearsal:
    return Rehearsal()


@pytest.fixture
def serving(cluster: Rehearsal) -> Rehearsal:
    cluster.serve()
    return cluster
