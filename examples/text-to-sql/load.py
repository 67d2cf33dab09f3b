"""Many clients at once ask the model that is served: README.md beside this says what to type.

Each client asks its next question when it has the answer to the last one, and no request is tried again, so that what
fails is seen.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from typing import Any

from openai import AsyncOpenAI, OpenAIError

# What finetunejob.yaml puts before every row.
SYSTEM = {"role": "system", "content": "Answer with one SQL query."}
ROWS = Path(__file__).with_name("test.jsonl")

Row = dict[str, Any]


async def ask(client: AsyncOpenAI, model: str, row: Row) -> tuple[float, str]:
    """How long the answer took, and the answer."""
    began = time.perf_counter()
    messages = [SYSTEM, {"role": "user", "content": row["prompt"]}]
    answer = await client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=64)
    return time.perf_counter() - began, answer.choices[0].message.content or ""


async def visit(client: AsyncOpenAI, model: str, rows: Iterator[Row], took: list[float], failed: list[str]) -> int:
    """One client: ask until no question is left; how many answers were the right query, letter for letter."""
    right = 0
    for row in rows:
        try:
            seconds, said = await ask(client, model, row)
        except OpenAIError as error:
            failed.append(str(error))
            continue
        took.append(seconds)
        right += said.strip() == row["completion"]
    return right


async def load(url: str, model: str, clients: int, questions: int, key: str) -> None:
    """All clients at once, who share the questions."""
    rows = [json.loads(line) for line in ROWS.read_text("utf-8").splitlines()][:questions]
    shared, took, failed = iter(rows), list[float](), list[str]()
    began = time.perf_counter()
    async with AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=600) as client:
        right = sum(await asyncio.gather(*(visit(client, model, shared, took, failed) for _ in range(clients))))
    seconds = time.perf_counter() - began
    print(f"{clients} clients, {len(rows)} questions: {len(took)} answered, {len(failed)} failed.")
    for sentence in sorted(set(failed)):
        print(f"  {sentence}")
    if len(took) > 1:
        cuts = quantiles(took, n=20, method="inclusive")
        print(
            f"{len(took) / seconds:.1f} answers a second; half took up to {cuts[9]:.2f} s, 95 % up to {cuts[18]:.2f} s."
        )
    print(f"{right} are the right query, letter for letter.")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="such as http://127.0.0.1:8000/v1")
    parser.add_argument("model", nargs="?", default="text-to-sql")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--questions", type=int, default=78)
    parser.add_argument("--key", default="none", help="where the engine wants one")
    asked = parser.parse_args()
    asyncio.run(load(asked.url, asked.model, asked.clients, asked.questions, asked.key))
