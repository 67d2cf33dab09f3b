"""An operator that comes too early: before its API server, or before its CustomResourceDefinition."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from control_plane import ControlPlane
from operator_process import OperatorProcess


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[ControlPlane]:
    """An API server without the CustomResourceDefinition."""
    found = ControlPlane(tmp_path)
    try:
        found.start()
        yield found
    finally:
        found.stop()


def test_without_its_custom_resource_it_ends_with_a_sentence(bare: ControlPlane, tmp_path: Path) -> None:
    operator = OperatorProcess(bare.kubeconfig(), tmp_path / "operator.log")
    assert operator.run() == 1
    assert operator.log() == (
        "The API server does not know finetunejobs.finetune.dev, engines.finetune.dev: "
        "install the CustomResourceDefinitions (crds/).\n"
    )


def test_without_an_api_server_it_ends_with_a_sentence(bare: ControlPlane, tmp_path: Path) -> None:
    bare.stop()
    operator = OperatorProcess(bare.kubeconfig(), tmp_path / "operator.log")
    assert operator.run() == 1
    assert operator.log().startswith("The API server does not answer: GET /apis/finetune.dev/v1alpha1: Cannot connect")
    assert operator.log().count("\n") == 1
