"""An engine of the cluster's making on this machine: adapters come and go while it answers, as in an Engine's pod."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import numpy as np
import pytest
from finetune_operator.api.engine import EngineSpec
from finetune_operator.engine import desired
from finetune_operator.serving import inside
from finetune_operator.settings import Settings
from finetune_trainer.contract.adapters import LIST, HeldAdapters, PublishedAdapter, WantedAdapters
from finetune_trainer.contract.published import MANIFEST, Manifest, written
from finetune_trainer.contract.results import ArtifactInfo
from finetune_trainer.data import digests
from hub import Hub, Repository, listening
from laptop import TINY
from ports import free_port
from safetensors.numpy import save_file

HIDDEN, VALUES, LAYERS = 64, 32, 2
# In seconds. An engine on CPUs answers nothing while it computes.
PATIENCE = 600
PROMPT = "To make a cake,"


@dataclass
class Pod:
    """The two containers of a pod, as processes; what the kubelet would write for them; the hub."""

    url: str
    status: str
    root: Path
    listed: Path
    hub: Hub
    processes: list[subprocess.Popen[bytes]]
    log: Path

    def want(self, wanted: WantedAdapters) -> None:
        """The annotation changes."""
        draft = self.listed.with_suffix(".draft")
        draft.write_text(wanted.model_dump_json(by_alias=True))
        draft.rename(self.listed)

    def held(self) -> HeldAdapters:
        return HeldAdapters.model_validate_json(self.get(f"{self.status}/status").content)

    def get(self, url: str) -> httpx.Response:
        return httpx.get(url, timeout=PATIENCE, trust_env=False)

    def ask(self, model: str) -> tuple[str, str]:
        """Which model answers, and what it says."""
        wanted = {"model": model, "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
        answer = httpx.post(f"{self.url}/v1/completions", json=wanted, timeout=PATIENCE, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer.json()["model"], answer.json()["choices"][0]["text"]

    def ask_together(self, *models: str) -> dict[str, set[str]]:
        """What each says to those who ask it while others ask the others."""
        asked = [model for _ in range(4) for model in models]
        with ThreadPoolExecutor(len(asked)) as pool:
            answers = list(pool.map(self.ask, asked))
        return {
            model: {said[1] for name, said in zip(asked, answers, strict=True) if name == model} for model in models
        }

    def models(self) -> set[str]:
        return {found["id"] for found in self.get(f"{self.url}/v1/models").json()["data"]}

    def ready(self) -> int:
        return self.get(f"{self.url}/finetune/ready").status_code

    def until(self, reached: Callable[[], object]) -> None:
        """Wait while both run; a refused connection is none yet."""
        for _ in range(int(2 * PATIENCE / 0.1)):
            try:
                if reached():
                    return
            except httpx.TransportError:
                pass
            for process in self.processes:
                try:
                    code = process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
                pytest.fail(f"{process.args} ended with {code}:\n{self.log.read_text()}")
        pytest.fail(f"not reached in {2 * PATIENCE} s:\n{self.log.read_text()[-20_000:]}")


def adapter(directory: Path, hub: Hub, name: str, seed: int, rank: int = 4) -> PublishedAdapter:
    """One of random weights, published on the hub."""
    random, weights = np.random.default_rng(seed), {}
    for layer in range(LAYERS):
        for module, size in (("q_proj", HIDDEN), ("v_proj", VALUES)):
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            weights[f"{prefix}.lora_A.weight"] = random.normal(size=(rank, HIDDEN)).astype(np.float32)
            weights[f"{prefix}.lora_B.weight"] = random.normal(size=(size, rank)).astype(np.float32)
    files = directory / name
    files.mkdir()
    save_file(weights, files / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["q_proj", "v_proj"]}
    (files / "adapter_config.json").write_text(json.dumps(config | {"bias": "none", "task_type": "CAUSAL_LM"}))
    digest = digests.digest(files)
    content = {path.name: path.read_bytes() for path in files.iterdir()}
    manifest = Manifest(
        name="recipes",
        revision=name,
        artifact=ArtifactInfo(digest=digest, bytes=sum(map(len, content.values()))),
        files={path.name: digests.of_file(path) for path in files.iterdir()},
    )
    commit = f"{seed:040x}"
    repository = hub.repositories.setdefault("acme/recipes", Repository({}, {}))
    repository.commits[commit] = content | {MANIFEST: written(manifest)}
    repository.branches[name] = commit
    return PublishedAdapter(name=name, uri=f"hf://acme/recipes@{name}", digest=digest)


def started(template: dict[str, Any], pod: Path, port: int, status_port: int, hub: Hub, log: Path) -> Any:
    """The pod's containers; where it has volumes this machine has directories."""
    engine, beside = template["spec"]["containers"]
    programs = pod / "inside"
    programs.mkdir()
    for key, source in template["metadata"]["annotations"].items():
        if key.endswith(".py"):
            (programs / key.rpartition("/")[2]).write_text(source)
    places = {"/mnt/claims/models/tiny": str(TINY), str(inside.DIRECTORY): str(programs), "8000": str(port)}
    told = {each["name"]: each.get("value", "") for each in engine["env"] if each["name"] != "HOME"}
    environment = {**os.environ, **{name: places.get(value, value) for name, value in told.items()}}
    environment["FINETUNE_ADAPTERS"] = str(pod / "adapters")
    arguments = [places.get(each, each) for each in engine["args"]]
    with log.open("wb") as output:
        yield subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", *arguments],
            env={**environment, "OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=output,
        )
        yield subprocess.Popen(
            [
                *(sys.executable, *beside["command"][1:]),
                *("--into", str(pod / "adapters"), "--endpoint", f"http://127.0.0.1:{port}"),
                *("--status-port", str(status_port), "--status-host", "127.0.0.1"),
                *("--wanted", str(pod / LIST), "--begin", str(pod / "begin.json")),
                *("--termination-log", str(pod / "termination-log")),
            ],
            env={**os.environ, "HF_ENDPOINT": hub.endpoint},
            stdout=output,
            stderr=output,
        )


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with listening(Hub()) as found:
        yield found


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, hub: Hub) -> PublishedAdapter:
    return adapter(tmp_path_factory.mktemp("first"), hub, "recipes-1", 1)


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory, hub: Hub, first: PublishedAdapter) -> Iterator[Pod]:
    """One whose list has an adapter as it starts."""
    directory = tmp_path_factory.mktemp("pod")
    spec = {
        "model": {"source": "pvc://models/tiny"},
        "lora": {"atOnce": 2, "maxRank": 8},
        "contextLength": 256,
        "arguments": ["--max-num-seqs=8"],
    }
    target = desired.Target("chat", "team-a", "uid", EngineSpec.model_validate(spec), Settings())
    (directory / "begin.json").write_text(
        WantedAdapters(adapters=(first,), aliases={"recipes": "recipes-1"}).model_dump_json(by_alias=True)
    )
    port, status_port, log = free_port(), free_port(), directory / "log"
    processes = list(started(desired.pod_template(target), directory, port, status_port, hub, log))
    url, status = (f"http://127.0.0.1:{each}" for each in (port, status_port))
    yield Pod(url, status, directory / "adapters", directory / LIST, hub, processes, log)
    for process in reversed(processes):
        process.terminate()
        process.wait(PATIENCE)


def test_adapters_come_and_go_while_clients_ask(pod: Pod, first: PublishedAdapter, tmp_path: Path) -> None:
    # It is ready once it has what it began with.
    pod.until(lambda: pod.ready() == 200)
    assert pod.models() == {"chat", "recipes-1", "recipes"}
    assert pod.held() == HeldAdapters(loaded=("recipes-1",), aliases={"recipes": "recipes-1"})
    # The name stands for the adapter, which is not the base model.
    answered, before = pod.ask("recipes")
    assert answered == "recipes-1"
    assert (answered, before) == pod.ask("recipes-1")
    assert before != pod.ask("chat")[1]
    # Nobody else loads.
    for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters"):
        asked = {"lora_name": "recipes-1", "lora_path": "/", "name": "x", "src": "/"}
        assert httpx.post(pod.url + path, json=asked, timeout=PATIENCE, trust_env=False).status_code == 403
    # Another revision takes its place under way.
    second = adapter(tmp_path, pod.hub, "recipes-2", 2)
    done, answers = Event(), []

    def client() -> None:
        while not done.is_set():
            answers.append(pod.ask("recipes"))

    with ThreadPoolExecutor() as pool:
        clients = [pool.submit(client) for _ in range(3)]
        try:
            pod.until(lambda: answers)
            pod.want(WantedAdapters(adapters=(second,), aliases={"recipes": "recipes-2"}))
            pod.until(lambda: pod.models() == {"chat", "recipes-2", "recipes"} and answers[-1][0] == "recipes-2")
        finally:
            # Or nobody would hear of what failed: they are waited for.
            done.set()
    for each in clients:
        each.result()
    assert {model for model, _ in answers} == {"recipes-1", "recipes-2"}
    assert {text for model, text in answers if model == "recipes-1"} == {before}
    after = pod.ask("recipes-2")[1]
    assert after != before
    assert {text for model, text in answers if model == "recipes-2"} == {after}


def test_the_base_model_answers_as_itself_beside_adapters(pod: Pod) -> None:
    alone = {model: {pod.ask(model)[1]} for model in ("chat", "recipes-2")}
    assert pod.ask_together("chat", "recipes-2") == alone


def test_one_that_cant_be_loaded_is_told_and_the_others_answer(pod: Pod, tmp_path: Path) -> None:
    second = adapter(tmp_path, pod.hub, "recipes-2", 2)
    large = adapter(tmp_path, pod.hub, "large-1", 3, rank=16)
    gone = PublishedAdapter(name="gone-1", uri="hf://acme/gone@1", digest="sha256:0")
    other = second.model_copy(update={"name": "other-1"}).model_copy(update={"digest": "sha256:0"})
    pod.want(
        WantedAdapters(adapters=(second, large, gone, other), aliases={"recipes": "recipes-2", "large": "large-1"})
    )
    pod.until(lambda: len(pod.held().failed) == 3 and pod.held().aliases == {"recipes": "recipes-2"})
    held = pod.held()
    assert held.loaded == ("recipes-2",)
    assert "Raise spec.lora.maxRank of the Engine." in held.failed["large-1"]
    assert "hf://acme/gone@1 does not exist" in held.failed["gone-1"]
    assert "is not what was trained" in held.failed["other-1"]
    assert pod.ask("recipes")[0] == "recipes-2"
    assert pod.ready() == 200
