"""When a hosting pod is started, ready and alive. Used by `hosting`."""

from finetune_operator import names
from finetune_operator.target import Manifest

# Reading a model of 100 GB from a slow disk takes this long.
STARTUP_SECONDS = 3600
_PERIOD_SECONDS = 5
# Started means that it answers a completion, which an open port or a loaded base model does not show. Standard library
# only: it runs in whatever image the user names; http.client, since it minds no proxy variables.
_COMPLETION = """\
import http.client, json, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[2]), timeout=55)
request = json.dumps({"model": sys.argv[1], "prompt": "Hello", "max_tokens": 1})
try:
    connection.request("POST", "/v1/completions", request, {"Content-Type": "application/json"})
    answer = connection.getresponse()
except OSError as error:
    sys.exit(f"the engine does not answer yet: {error}")
if answer.status != 200:
    sys.exit(f"the engine answers {answer.status}: {answer.read(500).decode(errors='replace')}")
"""


def probes(model: str) -> Manifest:
    """The container's three probes; `model` is the name that clients ask for."""
    health = {"httpGet": {"path": "/health", "port": names.ENGINE_PORT_NAME}}
    return {
        "startupProbe": {
            "exec": {"command": ["python3", "-c", _COMPLETION, model, str(names.ENGINE_PORT)]},
            "periodSeconds": _PERIOD_SECONDS,
            "timeoutSeconds": 60,
            "failureThreshold": STARTUP_SECONDS // _PERIOD_SECONDS,
        },
        "readinessProbe": {**health, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3},
        # An engine under full load answers late; a dead one answers 503 at once.
        "livenessProbe": {**health, "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6},
    }
