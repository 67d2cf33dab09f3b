"""A kind cluster with the operator installed by its chart, servers of S3 and OCI with a model and rows, and namespaces.

`make e2e` makes the cluster and loads the images; everything after that happens here, as a user would do it. Each file
is a story with a namespace of its own, and stories run side by side: whichever comes first sets up what they share.
That is left there when they end; the next run begins by removing what they left in their namespaces.
"""

from collections.abc import Iterator
from pathlib import Path

import finetune_api
import pytest
from filelock import FileLock
from kube import HELM, KUBECONFIG, KUBECTL, ROOT, SYSTEM, apply, kubectl, picture, run
from recipes import EXAMPLE, TINY, put, put_model, secret

RELEASE = "finetune-operator"
STORIES = sorted(path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py"))
BAD_ROWS = b'{"messages": [{"role": "user", "content": "Hi"}]}\n{"mesages": []}\nnot json\n'


@pytest.fixture(scope="session", autouse=True)
def ground(tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> None:
    """What all stories stand on, made once a run."""
    done = tmp_path_factory.getbasetemp().parent / testrun_uid
    with FileLock(done.with_suffix(".lock")):
        if not done.exists():
            for needed in (KUBECTL, HELM, Path(KUBECONFIG)):
                assert needed.exists(), f"{needed} is not there; run `make cluster images` first, or `make e2e`"
            run([KUBECTL, "wait", "node", "--all", "--for=condition=Ready", "--timeout=600s"], timeout=630)
            _namespaces()
            _bucket()
            _registry()
            _operator()
            done.touch()


def _namespaces() -> None:
    """One for each story; it enforces the restricted Pod Security Standard."""
    # Trainers of an interrupted run end with a grace of five minutes.
    kubectl("delete", "namespace", *STORIES, "--ignore-not-found", "--timeout=900s", timeout=930)
    enforced = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    apply(
        *(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": enforced}}
            for name in STORIES
        ),
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}},
    )


def _operator() -> None:
    """The operator, installed by Helm with the images of this tree, and every NetworkPolicy that the chart has."""
    images = {
        "image": "finetune.dev/operator",
        "images.trainer": "finetune.dev/trainer",
        "images.hostingCpu": "finetune.dev/vllm-cpu",
    }
    settings = [f"--set={key}.repository={value},{key}.tag=dev" for key, value in images.items()]
    policies = f"--set=networkPolicy.stagePods.enabled=true,networkPolicy.stagePods.namespaces={{{','.join(STORIES)}}}"
    # The tiny model trains for seconds.
    settings += [policies, "--set=progressSeconds=2", *finetune_api.settings()]
    apply(*finetune_api.objects())
    chart = ROOT / "charts" / "finetune-operator"
    flags = ["--namespace", SYSTEM, "--wait", "--timeout", "10m"]
    run([HELM, "upgrade", "--install", RELEASE, chart, *flags, *settings], timeout=630)
    # The image may be a new one under the same name.
    for name in ("finetune-operator", "finetune-operator-api"):
        kubectl("rollout", "restart", f"deployment/{name}", "-n", SYSTEM)
        kubectl("rollout", "status", f"deployment/{name}", "-n", SYSTEM, "--timeout=600s", timeout=630)


def _bucket() -> None:
    """Empty: what an earlier run has published is another FineTuneJob's, and stays that."""
    # With its pods, or what is put there could come to one that is about to go.
    gone = ("--cascade=foreground", "--ignore-not-found", "--timeout=600s")
    kubectl("delete", "deployment", "s3", "-n", "s3", *gone, timeout=630)
    run(["bash", ROOT / "hack" / "s3.sh"], timeout=630)
    put({"train.jsonl": (EXAMPLE / "train.jsonl").read_bytes(), "bad.jsonl": BAD_ROWS})
    put_model(TINY)


def _registry() -> None:
    """Empty, for the same reason."""
    gone = ("--cascade=foreground", "--ignore-not-found", "--timeout=600s")
    kubectl("delete", "deployment", "registry", "-n", "registry", *gone, timeout=630)
    kubectl("apply", "-f", str(ROOT / "hack" / "registry.yaml"))
    kubectl("rollout", "status", "deployment/registry", "-n", "registry", "--timeout=600s", timeout=630)


@pytest.fixture(scope="module")
def namespace(request: pytest.FixtureRequest) -> Iterator[str]:
    """The story's own namespace, with the Secret `bucket`."""
    name = _story(request.module.__name__)
    apply(secret(name, "bucket"))
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def _story(module: str) -> str:
    return module.removeprefix("test_")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest story first, or the others would have ended long before it."""
    items.sort(key=lambda item: item.path.stem != "test_truth")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[pytest.TestReport]:
    """A failed test shows what its namespace looked like."""
    report: pytest.TestReport = yield
    if report.failed and isinstance(item, pytest.Function):
        report.sections.append(("the cluster", picture(_story(item.module.__name__))))
    return report
