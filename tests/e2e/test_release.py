"""The installed release, as whoever installed it would check it."""

import pytest
from conftest import RELEASE
from kube import HELM, SYSTEM, kubectl, run
from stages import operator_pods

# Others kill the operator, which is asked here.
pytestmark = pytest.mark.alone


def test_helm_test_passes(ground: None) -> None:
    said = run([HELM, "test", RELEASE, "--namespace", SYSTEM, "--timeout", "10m"], timeout=630)
    assert "Phase:          Succeeded" in said


def test_the_idle_operator_stays_small(ground: None) -> None:
    status = kubectl("exec", "-n", SYSTEM, operator_pods()[0], "--", "cat", "/proc/1/status")
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident <= 150 * 1024, f"{resident} KiB"
