"""Exit 0 when the engine answers: `finetune_answers.py MODEL PORT PATH`. The startup probe of hosting pods, and of what
`finetune run` serves.

An open port does not show it, nor does a loaded base model. http.client minds no proxy variables.
"""

import http.client
import json
import os
import sys

# Less than the probe's own limit, so that it is this program that says why.
TIMEOUT_SECONDS = 55
# By the path of what clients ask for, the least that they can ask.
COMPLETIONS, CLASSIFY = "/v1/completions", "/classify"
_LEAST: dict[str, dict[str, object]] = {COMPLETIONS: {"prompt": "Hello", "max_tokens": 1}, CLASSIFY: {"input": "Hello"}}


def fault(model: str, port: int, path: str) -> str | None:
    """Why the engine on this machine does not answer as `model` at `path` yet; None when it does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    request = json.dumps({"model": model, **_LEAST[path]})
    try:
        connection.request("POST", path, request, {"Content-Type": "application/json", **_authorization()})
        answer = connection.getresponse()
        text = answer.read(500).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return f"the engine does not answer yet: {error}"
    finally:
        connection.close()
    return None if answer.status == http.HTTPStatus.OK else f"the engine answers {answer.status}: {text}"


def _authorization() -> dict[str, str]:
    """What the engine asks of its clients, where it asks anything: it has the key from the same variable."""
    key = os.environ.get("VLLM_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


if __name__ == "__main__":
    sys.exit(fault(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
