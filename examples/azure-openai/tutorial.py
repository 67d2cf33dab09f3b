"""Azure OpenAI's fine-tuning tutorial, step by step, against `finetune-api`: README.md beside this says what to type.

Nothing here is made for this server: it is the `openai` client's AzureOpenAI, and plain HTTP where the tutorial has it.
"""

import json
import os
import time
from pathlib import Path

import httpx
from openai import AzureOpenAI

HERE = Path(__file__).parent
ENDPOINT = os.environ["AZURE_OPENAI_ENDPOINT"]
KEY = os.environ["AZURE_OPENAI_API_KEY"]
RESOURCE = os.environ["AZURE_OPENAI_RESOURCE"]
BASE = os.environ.get("AZURE_OPENAI_MODEL", "gpt-4o-mini-2024-07-18")
VERSION = "2024-10-21"
SECONDS = float(os.environ.get("TUTORIAL_SECONDS", "15"))
DEPLOYMENT = "lighthouse-keeper"
# Where Azure has https://management.azure.com, a subscription and a resource group.
ACCOUNT = (
    f"{ENDPOINT}/subscriptions/tutorial/resourceGroups/tutorial"
    f"/providers/Microsoft.CognitiveServices/accounts/{RESOURCE}"
)


def look(name: str) -> Path:
    """The training or validation set: what is in it."""
    path = HERE / name
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    print(f"{name}: {len(rows)} examples, the first of which is")
    for message in rows[0]["messages"]:
        print(f"  {message['role']}: {message['content']}")
    return path


def upload(client: AzureOpenAI, path: Path) -> str:
    """The server checks each row, and says which is wrong."""
    with path.open("rb") as file:
        found = client.files.create(file=file, purpose="fine-tune")
    print(f"{path.name} is {found.id}, {found.status}")
    return found.id


def tune(client: AzureOpenAI, training: str, validation: str) -> str:
    """Train, and follow how it goes; the name of the model that came of it."""
    job = client.fine_tuning.jobs.create(
        training_file=training, validation_file=validation, model=BASE, seed=105, suffix="keeper"
    )
    print(f"Job {job.id}: {job.status}")
    told: set[str] = set()
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(SECONDS)
        job = client.fine_tuning.jobs.retrieve(job.id)
        # The newest comes first.
        for event in reversed(client.fine_tuning.jobs.list_events(job.id, limit=50).data):
            if event.id not in told:
                print(f"  {event.message}")
                told.add(event.id)
    if job.fine_tuned_model is None:
        raise SystemExit(f"Job {job.id}: {job.status}: {job.error.message if job.error else ''}")
    for kept in client.fine_tuning.jobs.checkpoints.list(job.id):
        print(f"  Checkpoint of step {kept.step_number}, validation loss {kept.metrics.valid_loss}")
    print(f"Model {job.fine_tuned_model}")
    return job.fine_tuned_model


def deploy(management: httpx.Client, model: str) -> None:
    """Give the model a name, and an engine."""
    body = {
        "sku": {"name": "standard", "capacity": 1},
        "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
    }
    address = f"{ACCOUNT}/deployments/{DEPLOYMENT}"
    state, answer = "", management.put(address, json=body)
    while state not in ("Succeeded", "Failed"):
        if answer.is_error:
            raise SystemExit(answer.json()["error"]["message"])
        if state != (state := answer.json()["properties"]["provisioningState"]):
            print(f"Deployment {DEPLOYMENT}: {state}")
        time.sleep(SECONDS)
        answer = management.get(address)
    if state == "Failed":
        raise SystemExit("kubectl describe ftj says why.")


def main() -> None:
    """The tutorial."""
    training, validation = look("training_set.jsonl"), look("validation_set.jsonl")
    client = AzureOpenAI(azure_endpoint=ENDPOINT, api_key=KEY, api_version=VERSION)
    model = tune(client, upload(client, training), upload(client, validation))
    headers, parameters = {"Authorization": f"Bearer {KEY}"}, {"api-version": VERSION}
    with httpx.Client(headers=headers, params=parameters, timeout=60) as management:
        deploy(management, model)
        answer = client.chat.completions.create(
            model=DEPLOYMENT,
            messages=[
                {"role": "system", "content": "You are Gruff, a lighthouse keeper."},
                {"role": "user", "content": "What is a fathom?"},
            ],
        )
        print(f"Gruff: {answer.choices[0].message.content}")
        management.delete(f"{ACCOUNT}/deployments/{DEPLOYMENT}").raise_for_status()
        left = management.get(f"{ACCOUNT}/deployments").raise_for_status().json()["value"]
        print(f"Deployments left: {len(left)}")


if __name__ == "__main__":
    main()
