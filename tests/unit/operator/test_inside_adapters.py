"""The middleware of engines that load adapters while they run: further names, closed doors, and when a pod is ready."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from finetune_operator.serving.inside import finetune_adapters
from finetune_operator.serving.inside.finetune_adapters import Names
from finetune_trainer.contract import adapters as contract

JSON = {"content-type": "application/json"}
MODELS: dict[str, Any] = {
    "object": "list",
    "data": [{"id": "chat", "root": "/m"}, {"id": "recipes-1", "root": "/a", "parent": "chat"}],
}


async def engine(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it was asked."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message.get("more_body"):
            break
    listed = scope["path"] == "/v1/models"
    length = next((value.decode() for key, value in scope["headers"] if key == b"content-length"), "")
    told = MODELS if listed else {"path": scope["path"], "body": body.decode(), "length": length}
    answer = json.dumps(told).encode()
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer[:10], "more_body": True})
    await send({"type": "http.response.body", "body": answer[10:]})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(finetune_adapters, "ROOT", tmp_path)
    (tmp_path / contract.KEY).write_text("secret")
    (tmp_path / contract.ALIASES).write_text(json.dumps({"recipes": "recipes-1", "gone": "gone-1"}))
    return tmp_path


@pytest.fixture
def client(root: Path) -> Iterator[httpx.AsyncClient]:
    return httpx.AsyncClient(transport=httpx.ASGITransport(Names(engine)), base_url="http://chat")


KEYED = {contract.KEY_HEADER: "secret"}


@pytest.mark.parametrize("asked", ["recipes", "recipes-1"])
async def test_a_further_name_is_passed_on_as_the_adapters_own(client: httpx.AsyncClient, asked: str) -> None:
    found = (await client.post("/v1/completions", json={"model": asked, "prompt": "ö"})).json()
    assert json.loads(found["body"]) == {"model": "recipes-1", "prompt": "ö"}
    assert int(found["length"]) == len(found["body"].encode())


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"model": 1}', b'{"model": "other"}', b'"recipes"', b"\xff", b"[" * 100_000]
)
async def test_what_names_no_adapter_is_passed_on_as_it_came(client: httpx.AsyncClient, body: bytes) -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == body
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    transport = httpx.ASGITransport(Names(echo))
    async with httpx.AsyncClient(transport=transport, base_url="http://chat") as found:
        assert (await found.post("/v1/completions", content=body, headers=JSON)).status_code == 204


async def test_a_name_that_was_pointed_elsewhere_is_from_the_next_request_on(
    client: httpx.AsyncClient, root: Path
) -> None:
    (root / contract.ALIASES).write_text('{"recipes": "recipes-2"}')
    found = (await client.post("/v1/completions", json={"model": "recipes"})).json()
    assert json.loads(found["body"]) == {"model": "recipes-2"}


async def test_who_asks_for_a_name_that_is_served_elsewhere_gets_an_answer_and_is_told_to_connect_anew(
    client: httpx.AsyncClient, root: Path
) -> None:
    (root / contract.LEAVING).write_text('["recipes"]')
    for asked, connection in (("recipes", "close"), ("recipes-1", None)):
        found = await client.post("/v1/completions", json={"model": asked})
        assert json.loads(found.json()["body"]) == {"model": "recipes-1"}
        assert found.headers.get("connection") == connection


async def test_further_names_are_listed_beside_the_adapters(client: httpx.AsyncClient) -> None:
    models = (await client.get("/v1/models")).json()["data"]
    assert [model["id"] for model in models] == ["chat", "recipes-1", "recipes"]
    assert models[2] == models[1] | {"id": "recipes"}
    # Whoever loads them sees what the engine has.
    assert (await client.get("/v1/models", headers=KEYED)).json() == MODELS


@pytest.mark.parametrize("host", ["recipes", "recipes:8000", "Recipes.kitchen", "recipes.kitchen.svc.cluster.local."])
async def test_through_a_jobs_service_its_own_model_and_the_base_model_are_found_and_no_other_adapter(
    client: httpx.AsyncClient, root: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, earlier = "recipes-0a1b2c3d", "recipes-99999999"
    # One of another FineTuneJob, named like a revision of this one.
    alike = "recipes-0badc0de"
    loaded = (served, earlier, "wines-11111111", "wines-22222222", f"{alike}-11111111")
    monkeypatch.setitem(MODELS, "data", [{"id": "chat"}, *({"id": name, "parent": "chat"} for name in loaded)])
    aliases = {"recipes": served, "wines": "wines-11111111", alike: f"{alike}-11111111"}
    (root / contract.ALIASES).write_text(json.dumps(aliases))
    models = (await client.get("/v1/models", headers={"host": host})).json()["data"]
    assert [model["id"] for model in models] == ["chat", served, earlier, "recipes"]
    for asked, passed_on in (("recipes", served), (served, served), (earlier, earlier), ("chat", "chat"), ("no", "no")):
        found = await client.post("/v1/completions", json={"model": asked}, headers={"host": host})
        assert json.loads(found.json()["body"]) == {"model": passed_on}
    for asked in ("wines", *loaded[2:], alike):
        refused = await client.post("/v1/completions", json={"model": asked}, headers={"host": host})
        assert refused.status_code == 404
        said = f"{asked} is no model of recipes. Its Engine has it: ask that by its own name."
        assert refused.json()["error"]["message"] == said


@pytest.mark.parametrize("host", ["chat", "10.0.0.7:8000", "recipes.example.org", "[::1]:8000", ""])
async def test_by_any_other_name_the_engine_has_all_that_it_has(client: httpx.AsyncClient, host: str) -> None:
    models = (await client.get("/v1/models", headers={"host": host})).json()["data"]
    assert [model["id"] for model in models] == ["chat", "recipes-1", "recipes"]
    found = await client.post("/v1/completions", json={"model": "gone"}, headers={"host": host})
    assert json.loads(found.json()["body"]) == {"model": "gone-1"}


@pytest.mark.parametrize(
    "path",
    ["/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/load_lora_adapter/", "/adapters", "/adapters/recipes-1"],
)
async def test_nobody_loads_who_has_not_the_key(client: httpx.AsyncClient, root: Path, path: str) -> None:
    for headers in ({}, {contract.KEY_HEADER: "guess"}, {contract.KEY_HEADER: ""}):
        refused = await client.post(path, json={}, headers=headers)
        assert refused.status_code == 403
        assert "Adapters are loaded by the Engine's own pod" in refused.json()["error"]["message"]
    assert (await client.request("DELETE", path)).status_code == 403
    assert (await client.post(path, json={}, headers=KEYED)).json()["path"] == path
    # Before there is a key, nothing is it.
    (root / contract.KEY).unlink()
    assert (await client.post(path, json={}, headers=KEYED)).status_code == 403


async def test_it_is_ready_once_whoever_loads_says_so_and_a_process_that_starts_again_is_not(
    client: httpx.AsyncClient,
) -> None:
    assert (await client.get(contract.READY)).status_code == 503
    assert (await client.post(contract.READY)).status_code == 503
    assert (await client.get(contract.READY)).status_code == 503
    assert (await client.post(contract.READY, headers=KEYED)).json()["path"] == "/health"
    assert (await client.get(contract.READY)).json()["path"] == "/health"
    again = httpx.AsyncClient(transport=httpx.ASGITransport(Names(engine)), base_url="http://chat")
    assert (await again.get(contract.READY)).status_code == 503


def test_both_sides_of_the_volume_mean_the_same() -> None:
    assert contract.KEY_HEADER.encode() == finetune_adapters.KEY_HEADER
    assert contract.READY == finetune_adapters.READY
