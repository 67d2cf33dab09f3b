"""One API server for all contract tests; each test that writes objects gets a namespace of its own."""

import itertools
import json
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import blobs
import chart
import hub
import pytest
import s3
import stores
from blobs import Blobs
from botocore.client import BaseClient
from control_plane import ControlPlane, Kubectl, User, with_crd
from ground import Ground
from hub_writes import WritableHub
from operator_process import OperatorProcess
from playing import Played
from s3 import OWNERS, Bucket, serving

# A user whom no rule knows: a test that binds a role to it sees exactly what that role allows.
STRANGER = User("stranger")
# The operator's process: a test gives it the rights of the chart's ServiceAccount. Where there are two, the second is
# another user, so that the API server's audit tells them apart.
OPERATOR, SECOND = User("operator"), User("second-operator")
# The API server of OpenAI's clients, with the rights of that component of the chart.
API = User("api")

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, BaseClient]]:
    """An S3 server for all."""
    with serving(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture
def bucket(s3_server: tuple[str, BaseClient], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
    """The server, with the right credentials given for whoever asks."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "FINETUNE_"))]:
        monkeypatch.delenv(name)
    # Nor those of whoever runs the tests, nor a cloud machine's.
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    found = Bucket(*s3_server, monkeypatch)
    for owner in OWNERS:
        found.grant(owner, AWS_ACCESS_KEY_ID=s3.KEY, AWS_SECRET_ACCESS_KEY=s3.SECRET, AWS_ENDPOINT_URL=found.endpoint)
    return found


@pytest.fixture(scope="session")
def google_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of Google's buckets for all."""
    with stores.google(tmp_path_factory.mktemp("gs") / "log") as address:
        yield address


@pytest.fixture(scope="session")
def blob_server() -> Iterator[Blobs]:
    """Azure's Blob service for all."""
    with blobs.listening(Blobs()) as found:
        yield found


@pytest.fixture(scope="session")
def oci_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry for all."""
    with stores.registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="session")
def hub_server() -> Iterator[WritableHub]:
    """The hub for all."""
    with hub.listening(WritableHub(writer=stores.TOKEN)) as found:
        assert isinstance(found, WritableHub)
        yield found


@pytest.fixture(params=("hf", "oci", "s3", "gs", "abfs", "pvc"))
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> stores.Store:
    """Each place that artifacts are published to, and a destination there of the test's own."""
    name, found = request.node.originalname, request.getfixturevalue("blob_server")
    match request.param:
        case "hf":
            return stores.hf(request.getfixturevalue("hub_server"), monkeypatch, name)
        case "oci":
            return stores.oci(request.getfixturevalue("oci_server"), monkeypatch, name)
        case "s3":
            return stores.s3(request.getfixturevalue("bucket"), name)
        case "pvc":
            claims = tmp_path / "claims"
            claims.mkdir()
            return stores.pvc(claims, monkeypatch, name)
        case "gs":
            return stores.gs(request.getfixturevalue("google_server"), found.endpoint, monkeypatch, name)
        case _:
            return stores.abfs(found, monkeypatch, name)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A running API server, empty."""
    found = ControlPlane(tmp_path_factory.mktemp("control-plane"), (STRANGER, OPERATOR, SECOND, API))
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="session")
def admin(control_plane: ControlPlane) -> Kubectl:
    """kubectl as the administrator, the CRD established."""
    kubectl = with_crd(control_plane)
    kubectl("create", "namespace", chart.SYSTEM)
    return kubectl


@pytest.fixture
def namespace(admin: Kubectl) -> str:
    """A new namespace."""
    return _new_namespace(admin)


def _new_namespace(admin: Kubectl) -> str:
    name = f"test-{next(_numbers)}"
    admin("create", "namespace", name)
    return name


@pytest.fixture
def namespaces(control_plane: ControlPlane, admin: Kubectl) -> Iterator[tuple[str, Kubectl]]:
    """New namespaces, as many as are asked for, each with kubectl as the administrator."""
    names = (_new_namespace(admin) for _ in itertools.count())
    return ((name, Kubectl(control_plane.kubeconfig(namespace=name))) for name in names)


@pytest.fixture
def kubectl(control_plane: ControlPlane, namespace: str) -> Kubectl:
    """kubectl as the administrator in a new namespace."""
    return Kubectl(control_plane.kubeconfig(namespace=namespace))


@pytest.fixture
def kubectl_as(control_plane: ControlPlane, namespace: str) -> Callable[[str], Kubectl]:
    """kubectl as a user of the static token file, in the test's namespace."""
    return lambda user: Kubectl(control_plane.kubeconfig(user, namespace))


@pytest.fixture
def grant(control_plane: ControlPlane, admin: Kubectl) -> Iterator[Callable[..., None]]:
    """Give the operators' users what the chart, rendered with some values, gives its ServiceAccount."""
    applied: list[str] = []

    def apply(**values: object) -> None:
        manifests = chart.rights(OPERATOR.name, SECOND.name, **values)
        applied.extend(map(json.dumps, manifests))
        chart.give(control_plane, admin, manifests)

    yield apply
    for document in applied:
        admin("delete", "-f-", document=document)


@pytest.fixture
def launch(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Callable[..., OperatorProcess]]:
    """Start the operator with settings; it is killed with the test."""
    started: list[OperatorProcess] = []

    def start(user: User = OPERATOR, **settings: object) -> OperatorProcess:
        log = tmp_path / f"operator-{next(_numbers)}.log"
        started.append(OperatorProcess(control_plane.kubeconfig(user.name), log, **settings))
        return started[-1].start()

    yield start
    for found in started:
        found.kill()
        print(found.log())


@pytest.fixture
def lease(admin: Kubectl) -> dict[str, str]:
    """The settings with which an operator works only while it holds the release's Lease, which nobody holds yet."""
    admin("delete", "lease", chart.RELEASE, "--namespace", chart.SYSTEM, "--ignore-not-found")
    return {"lease_namespace": chart.SYSTEM, "lease_name": chart.RELEASE}


@pytest.fixture
def played(kubectl: Kubectl) -> Played:
    """The FineTuneJob of this test's namespace."""
    return Played(kubectl)


@pytest.fixture
def operator(grant: Callable[..., None], launch: Callable[..., OperatorProcess], namespace: str) -> OperatorProcess:
    """An operator of all namespaces. The FineTuneJobs of other tests lie idle."""
    grant()
    return launch()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the servers' logs beside a failure."""
    report = yield
    plane = getattr(item, "funcargs", {}).get("control_plane")
    if report.failed and plane:
        report.sections.append(("control plane", plane.logs()))
    return report


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """An API server of its own, with real controllers: what other tests play by hand they would undo."""
    with new_ground(tmp_path_factory.mktemp("ground")) as found:
        yield found


@contextmanager
def new_ground(directory: Path) -> Iterator[Ground]:
    """Another one."""
    plane = ControlPlane(directory, (STRANGER, OPERATOR, SECOND))
    try:
        plane.start()
        kubectl = with_crd(plane)
        kubectl("create", "namespace", chart.SYSTEM)
        chart.give(plane, kubectl, chart.rights(OPERATOR.name, SECOND.name))
        with Ground(plane, directory, OPERATOR.name) as found:
            yield found
    finally:
        plane.stop()
