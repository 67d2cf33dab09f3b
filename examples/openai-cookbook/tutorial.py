"""The recipe assistant of OpenAI's cookbook, step by step, against `finetune-api`: README.md says what to type.

Nothing here is made for this server: it is the `openai` client, which finds the address and the key in OPENAI_BASE_URL
and OPENAI_API_KEY.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from openai import BadRequestError, OpenAI

# Rows of the chat format: a fixed system message, a recipe, its generic ingredients.
RECIPES = Path(os.environ.get("TUTORIAL_RECIPES", Path(__file__).parents[1] / "recipe-assistant"))
BASE = os.environ.get("TUTORIAL_MODEL", "gpt-4o-mini-2024-07-18")
SECONDS = float(os.environ.get("TUTORIAL_SECONDS", "15"))

Row = dict[str, Any]


def read(name: str) -> list[Row]:
    """The rows of a file."""
    return [json.loads(line) for line in (RECIPES / name).read_text("utf-8").splitlines()]


def upload(client: OpenAI, name: str, rows: list[Row]) -> str:
    """The server checks each row as it comes; the file's id."""
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    found = client.files.create(file=(name, content.encode()), purpose="fine-tune")
    print(f"{name}: {len(rows)} rows, {found.id}")
    return found.id


def upload_what_is_wrong(client: OpenAI, row: Row) -> None:
    """Behind a good row one without messages: what the server says of it, which keeps nothing of the file."""
    try:
        upload(client, "wrong.jsonl", [row, {"messages": []}])
    except BadRequestError as error:
        print(f"wrong.jsonl is refused: {error.body['message']}")
    else:
        raise SystemExit("wrong.jsonl was taken, though its second row has no messages.")


def follow(client: OpenAI, id: str) -> str:
    """Tell what becomes of the job until it has ended; the name of the model that came of it."""
    told: set[str] = set()
    while True:
        job = client.fine_tuning.jobs.retrieve(id)
        # The newest comes first.
        for event in reversed(client.fine_tuning.jobs.list_events(id, limit=50).data):
            if event.id not in told:
                print(f"  {event.message}")
                told.add(event.id)
        if job.status in ("succeeded", "failed", "cancelled"):
            break
        time.sleep(SECONDS)
    if job.fine_tuned_model is None:
        raise SystemExit(f"{id}: {job.status}: {job.error.message if job.error else ''}")
    print(f"Model {job.fine_tuned_model}, {job.trained_tokens} tokens trained")
    return job.fine_tuned_model


def ask(client: OpenAI, model: str, row: Row) -> None:
    """A recipe that it has never seen, and what it makes of it."""
    *asked, expected = row["messages"]
    answer = client.chat.completions.create(model=model, messages=asked, temperature=0, max_tokens=64)
    print(asked[-1]["content"])
    print(f"Right:   {expected['content']}")
    print(f"Answer:  {answer.choices[0].message.content}")
    print(f"That was {answer.model}, in {answer.usage.completion_tokens} tokens.")


def main() -> None:
    """The cookbook."""
    client = OpenAI()
    rows = read("train.jsonl")
    cut = len(rows) * 4 // 5
    upload_what_is_wrong(client, rows[0])
    training = upload(client, "recipe_training.jsonl", rows[:cut])
    validation = upload(client, "recipe_validation.jsonl", rows[cut:])
    job = client.fine_tuning.jobs.create(
        model=BASE, training_file=training, validation_file=validation, suffix="recipe-ner"
    )
    print(f"Job {job.id}: {job.status}")
    model = follow(client, job.id)
    ask(client, model, read("test.jsonl")[0])
    print(f"{model} deleted: {client.models.delete(model).deleted}")


if __name__ == "__main__":
    main()
