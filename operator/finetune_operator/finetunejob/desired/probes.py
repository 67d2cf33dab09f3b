"""When a hosting pod is started, ready and alive. Used by `hosting`."""

from finetune_operator import names
from finetune_operator.finetunejob.desired import inside
from finetune_operator.pods.metadata import Manifest

# Reading a model of 100 GB from a slow disk takes this long.
STARTUP_SECONDS = 3600
_PERIOD_SECONDS = 5


def probes(model: str) -> Manifest:
    """The container's three probes; `model` is the name that clients ask for."""
    health = {"httpGet": {"path": "/health", "port": names.ENGINE_PORT_NAME}}
    return {
        "startupProbe": {
            "exec": {"command": ["python3", str(inside.ANSWERS), model, str(names.ENGINE_PORT)]},
            "periodSeconds": _PERIOD_SECONDS,
            "timeoutSeconds": 60,
            "failureThreshold": STARTUP_SECONDS // _PERIOD_SECONDS,
        },
        "readinessProbe": {**health, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3},
        # An engine under full load answers late; a dead one answers 503 at once.
        "livenessProbe": {**health, "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6},
    }
