"""When a hosting pod is started, ready and alive. Used by `container`."""

from finetune_operator import names
from finetune_operator.pods.metadata import Manifest
from finetune_operator.serving import inside

# Reading a model of 100 GB from a slow disk takes this long.
STARTUP_SECONDS = 3600
_PERIOD_SECONDS = 5
# An engine on CPUs answers nothing while it computes a step, and a full batch of prompts takes it half a minute where
# others share its cores; one that is dead says so at once, with 503.
_BUSY_SECONDS = 30


def probes(model: str, path: str, ready: str = "/health") -> Manifest:
    """The container's three probes; `model` is the name that clients ask for, at `path`.

    `ready`: where it says that they may.
    """
    health = {"httpGet": {"path": "/health", "port": names.ENGINE_PORT_NAME}}
    return {
        "startupProbe": {
            "exec": {"command": ["python3", str(inside.ANSWERS), model, str(names.ENGINE_PORT), path]},
            "periodSeconds": _PERIOD_SECONDS,
            "timeoutSeconds": 60,
            "failureThreshold": STARTUP_SECONDS // _PERIOD_SECONDS,
        },
        "readinessProbe": {
            **health,
            "httpGet": {**health["httpGet"], "path": ready},
            "periodSeconds": 5,
            "timeoutSeconds": _BUSY_SECONDS,
            "failureThreshold": 3,
        },
        "livenessProbe": {**health, "periodSeconds": 10, "timeoutSeconds": _BUSY_SECONDS, "failureThreshold": 6},
    }
