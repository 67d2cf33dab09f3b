"""The installed release, as whoever installed it would check it."""

from conftest import RELEASE
from kube import HELM, OPERATOR, SYSTEM, items, kubectl, run


def test_helm_test_passes(ground: None) -> None:
    said = run([HELM, "test", RELEASE, "--namespace", SYSTEM, "--timeout", "2m"], timeout=150)
    assert "Phase:          Succeeded" in said


def test_the_idle_operator_stays_small(ground: None) -> None:
    pod = items("pod", SYSTEM, OPERATOR)[0]["metadata"]["name"]
    status = kubectl("exec", "-n", SYSTEM, pod, "--", "cat", "/proc/1/status")
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident <= 150 * 1024, f"{resident} KiB"
