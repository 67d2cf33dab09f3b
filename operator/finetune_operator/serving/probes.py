"""When a hosting pod is started, ready and alive. Used by `pod`."""

from finetune_operator import names
from finetune_operator.pods.metadata import Manifest
from finetune_operator.serving import inside

# Reading a model of 100 GB from a slow disk takes this long.
STARTUP_SECONDS = 3600
_PERIOD_SECONDS = 5
# How long an answer may take, to whether it is ready and to whether it lives. A dead engine says 503 at once, one under
# full load is late; and on CPUs it says nothing while it computes a step, and a full batch of prompts takes it half a
# minute where others share its cores.
_PATIENCE, _PATIENCE_ON_CPUS = (5, 10), (30, 30)


def probes(model: str, path: str, ready: str, on_cpus: bool) -> Manifest:
    """The container's three probes; `model` is the name that clients ask for, at `path`.

    `ready`: where it says that they may.
    """
    until_unready, until_dead = _PATIENCE_ON_CPUS if on_cpus else _PATIENCE
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
            "timeoutSeconds": until_unready,
            "failureThreshold": 3,
        },
        "livenessProbe": {**health, "periodSeconds": 10, "timeoutSeconds": until_dead, "failureThreshold": 6},
    }
