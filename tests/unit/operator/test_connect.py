"""How the operator finds its way to the API server."""

from pathlib import Path

import pytest
from finetune_operator.shell.connection import connect
from kubernetes.aio.config import kube_config

API_SERVER = "https://api.example.com:6443"


@pytest.fixture(autouse=True)
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "NO_PROXY", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    path = tmp_path / "kubeconfig"
    path.write_text(f"""
apiVersion: v1
kind: Config
current-context: test
contexts: [{{name: test, context: {{cluster: test, user: test}}}}]
clusters: [{{name: test, cluster: {{server: "{API_SERVER}"}}}}]
users: [{{name: test, user: {{token: abc}}}}]
""")
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(path))


async def test_a_proxy_is_minded_as_other_clients_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    found = await connect()
    assert (found.host, found.proxy) == (API_SERVER, "http://proxy.example.com:3128")


async def test_what_needs_no_proxy_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", "localhost,.example.com")
    assert (await connect()).proxy is None


async def test_without_one_there_is_none() -> None:
    assert (await connect()).proxy is None
