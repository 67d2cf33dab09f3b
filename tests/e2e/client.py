"""Runs in a pod of the tests: asks the stable Service with the unmodified openai client, and prints a line an answer.

`client.py ask URL MODEL...` asks every model every row of rows.json. `client.py load URL MODEL` asks one short question
after the other, without retries, until /tmp/stop appears. `client.py reach URL...` tells which of them answer at all.
"""

import json
import os
import sys
import threading
import time
import urllib.request
from pathlib import Path

from httpx import Limits, Timeout
from openai import DefaultHttpxClient, OpenAI, OpenAIError

# Seconds. A machine that stands still is no reason to end before the story that is asked about has.
PAUSE, LONGEST = 0.5, 7200.0
# The engine closes a connection that was idle for 5 seconds. Whoever goes on with it at that moment, which is when a
# machine that stood still goes on, gets no answer; so this client has given it up by then.
IDLE = 2.0
# As the client has it, but for connecting: five seconds are soon over where everything shares two cores.
TIMEOUT = Timeout(600, connect=30)
# How long a connection that a policy forbids is tried.
REACH = 15


def ask(client: OpenAI, models: list[str]) -> None:
    """Every row to every model."""
    for row in json.loads(Path("/client/rows.json").read_text()):
        *prompt, expected = row["messages"]
        for model in models:
            answer = client.chat.completions.create(model=model, messages=prompt, temperature=0, max_tokens=64)
            said = (answer.choices[0].message.content or "").strip()
            print(json.dumps({"model": model, "said": said, "expected": expected["content"]}), flush=True)


def load(client: OpenAI, model: str) -> None:
    """One question after the other, until told to stop."""
    pause, end = threading.Event(), time.monotonic() + LONGEST
    while not Path("/tmp/stop").exists() and time.monotonic() < end:
        try:
            client.completions.create(model=model, prompt="Hello", max_tokens=4)
            print(json.dumps({"ok": True}), flush=True)
        except OpenAIError as error:
            print(json.dumps({"ok": False, "error": repr(error)}), flush=True)
        pause.wait(PAUSE)


def reach(urls: list[str]) -> None:
    """Whether each answers; a policy that forbids it lets the connection time out."""
    for url in urls:
        try:
            urllib.request.urlopen(url, timeout=REACH).close()
            print(json.dumps({"url": url, "ok": True}), flush=True)
        except OSError as error:
            print(json.dumps({"url": url, "ok": False, "error": repr(error)}), flush=True)


if __name__ == "__main__":
    mode, url, *names = sys.argv[1:]
    if mode == "reach":
        reach([url, *names])
    elif mode == "ask":
        ask(OpenAI(base_url=url, api_key=os.environ.get("OPENAI_API_KEY", "none")), names)
    else:
        http = DefaultHttpxClient(limits=Limits(keepalive_expiry=IDLE))
        load(OpenAI(base_url=url, api_key="none", max_retries=0, timeout=TIMEOUT, http_client=http), names[0])
