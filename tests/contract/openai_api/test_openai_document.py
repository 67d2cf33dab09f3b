"""Whatever is asked of the API server, in OpenAI's shape or Azure's, is answered as its own OpenAPI document says."""

import json
from hashlib import sha256

import httpx
import pytest
from control_plane import PATIENCE
from documented import Asked
from openai import OpenAI
from openai_server import BASE, Keyring, Told

FREE = "sk-who-may-ask-as-often-as-they-like"


@pytest.mark.usefixtures("services")
def test_the_server_answers_as_its_document_says(
    client: OpenAI, keys: Keyring, namespace: str, train: str, told: Told, engine_url: str
) -> None:
    limits = {"requestsPerMinute": 1_000_000, "jobs": 1_000}
    keys.write(
        "free",
        json.dumps({"sha256": sha256(FREE.encode()).hexdigest(), "namespace": namespace, "limits": limits}),
    )
    job = client.fine_tuning.jobs.create(model=BASE, training_file=train)
    told.serves(job.id, engine_url)
    model = str(client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model)
    account = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.CognitiveServices/accounts"
    address = str(client.base_url).removesuffix("/v1/")
    deployed = httpx.put(
        f"{address}{account}/{namespace}/deployments/soup?api-version=2024-10-01",
        headers={"api-key": FREE},
        json={
            "sku": {"name": "standard", "capacity": 1},
            "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
        },
        timeout=PATIENCE,
    )
    assert deployed.status_code == 201
    there = {
        "/v1/files {id}": train,
        "/v1/fine_tuning/jobs {id}": job.id,
        "/v1/models {name}": model,
        "/v1/deployments {name}": "soup",
        f"{account} {{account}}": namespace,
        f"{account}/{{account}}/deployments {{name}}": "soup",
    }
    bodies = {"/jobs": {"model": BASE, "training_file": train}, "completions": {"model": model}}
    asked = Asked(address, FREE, there, bodies)
    asked.everything(examples=4)
    done = {what for what, status in asked.answered if status in (200, 201)}
    missed = {what for what, _ in asked.answered if what.startswith("GET") or what.endswith(("/jobs", "completions"))}
    assert not missed - done, "Nothing that was asked of these is there."
