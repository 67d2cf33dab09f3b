"""One API server for all contract tests; each test that writes objects gets a namespace of its own."""

import itertools
from collections.abc import Callable, Generator, Iterator

import pytest
from control_plane import ControlPlane, Kubectl, User
from finetune_operator.api.crd import CRD_PATH
from paths import ROOT

# A user whom no rule knows: a test that binds a role to it sees exactly what that role allows.
STRANGER = User("stranger")
# The operator's process: a test gives it the rights of the chart's ServiceAccount.
OPERATOR = User("operator")

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A running API server, empty."""
    found = ControlPlane(tmp_path_factory.mktemp("control-plane"), (STRANGER, OPERATOR))
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="session")
def admin(control_plane: ControlPlane) -> Kubectl:
    """kubectl as the administrator, the CRD established."""
    kubectl = Kubectl(control_plane.kubeconfig())
    kubectl("apply", "--server-side", "-f", str(ROOT / CRD_PATH))
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/finetunejobs.finetune.dev")
    return kubectl


@pytest.fixture
def namespace(admin: Kubectl) -> str:
    """A new namespace."""
    name = f"test-{next(_numbers)}"
    admin("create", "namespace", name)
    return name


@pytest.fixture
def kubectl(control_plane: ControlPlane, namespace: str) -> Kubectl:
    """kubectl as the administrator in a new namespace."""
    return Kubectl(control_plane.kubeconfig(namespace=namespace))


@pytest.fixture
def kubectl_as(control_plane: ControlPlane, namespace: str) -> Callable[[str], Kubectl]:
    """kubectl as a user of the static token file, in the test's namespace."""
    return lambda user: Kubectl(control_plane.kubeconfig(user, namespace))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the servers' logs beside a failure."""
    report = yield
    plane = getattr(item, "funcargs", {}).get("control_plane")
    if report.failed and plane:
        report.sections.append(("control plane", plane.logs()))
    return report
