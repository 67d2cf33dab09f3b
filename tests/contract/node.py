"""A scheduler, a kubelet and a provisioner, played: pods of one namespace are bound, run, and end as a test wants.

Used by `ground`. Real controllers make the pods; no container runs, so what the stages leave in their termination
messages is written here, made from the files that their pods would have mounted.
"""

import json
from collections.abc import Coroutine
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

from api_client import Api, Mirror, Raw, Refusal
from finetune_operator import names
from finetune_operator.pods.state import INDEX
from finetune_trainer.contract.config import EvaluationConfig
from finetune_trainer.contract.outcome import Outcome
from rehearsal import ENGINES, PREPARED, TRAINED, evaluated

# An address where nothing listens: no pod tells its progress, unless a test gives it another one.
NOWHERE = "127.0.78.1"
# Where the trainer's program looks for what it is to measure.
EVALUATION = PurePosixPath("/etc/finetune/evaluation.json")
MOMENT = "2026-01-01T00:00:00Z"


class Ending(Enum):
    """What becomes of a stage's pod once it runs."""

    SUCCEED = "succeed"
    HOLD = "hold"
    FAIL = "fail"


class Node:
    """The node that all pods of a namespace run on.

    `endings` by stage, or by FineTuneJob and stage where these differ; `addresses` by FineTuneJob. The pods of
    `lingering` stages don't stop when they are told to; those of `pulling`, by FineTuneJob and stage, don't start.
    `scores` are what evaluations find, `results` what a numbered pod of a stage leaves: None where another one has it.
    """

    def __init__(self, api: Api, mirror: Mirror, namespace: str) -> None:
        self._api, self._mirror, self.namespace = api, mirror, namespace
        self.endings: dict[str | tuple[str, str], Ending] = {}
        self.addresses: dict[str, str] = {}
        self.lingering: set[str] = set()
        self.pulling: set[tuple[str, str]] = set()
        self.scores: dict[str, float] = {}
        self.results: dict[tuple[str, str], Raw | None] = {}

    async def run(self) -> None:
        """Play until cancelled."""
        while True:
            changed = self._mirror.next_change(self.namespace)
            for claim in self._mirror.all(self.namespace, "PersistentVolumeClaim"):
                await self._try(self._bind(claim))
            for pod in self._mirror.all(self.namespace, "Pod"):
                await self._try(self._step(pod))
            await changed.wait()

    async def tick(self) -> None:
        """Look at every pod once more, after a test has changed its mind."""
        for pod in self._mirror.all(self.namespace, "Pod"):
            await self._try(self._step(pod))

    async def _bind(self, claim: Raw) -> None:
        if claim.get("status", {}).get("phase") != "Bound" and "deletionTimestamp" not in claim["metadata"]:
            await self._status(claim, {"phase": "Bound"})

    async def _try(self, step: Coroutine[Any, Any, None]) -> None:
        try:
            await step
        except Refusal as refusal:
            # Gone, or changed meanwhile: the mirror will tell.
            if refusal.status not in (404, 409):
                raise

    async def _step(self, pod: Raw) -> None:
        phase = pod.get("status", {}).get("phase", "Pending")
        if "deletionTimestamp" in pod["metadata"]:
            await self._stop(pod, phase)
        elif "nodeName" not in pod["spec"]:
            await self._schedule(pod)
        elif phase == "Pending" and (job_of(pod), stage_of(pod)) not in self.pulling and self._mountable(pod):
            await self._start(pod)
        elif phase == "Running":
            await self._end(pod)

    async def _stop(self, pod: Raw, phase: str) -> None:
        if stage_of(pod) in self.lingering or pod["metadata"].get("deletionGracePeriodSeconds") == 0:
            return
        if phase not in ("Succeeded", "Failed"):
            await self._status(pod, {"phase": "Failed", **containers(pod, terminated(143, ""))})
        await self._api.delete("Pod", self.namespace, pod["metadata"]["name"], gracePeriodSeconds=0)

    async def _schedule(self, pod: Raw) -> None:
        if lack := next(filter(None, map(self._lack, _claims(pod))), None):
            message = f"0/1 nodes are available: {lack}."
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
            if condition not in [_without_time(found) for found in pod["status"].get("conditions", [])]:
                await self._status(pod, {"conditions": [condition]})
            return
        name = pod["metadata"]["name"]
        target = {"apiVersion": "v1", "kind": "Node", "name": "node"}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        await self._api.call("POST", f"/api/v1/namespaces/{self.namespace}/pods/{name}/binding", body)

    def _lack(self, name: str) -> str | None:
        """Why a scheduler would not place a pod with this claim."""
        claim = self._mirror.get(self.namespace, "PersistentVolumeClaim", name)
        if claim is None:
            return f'persistentvolumeclaim "{name}" not found'
        return f'persistentvolumeclaim "{name}" is being deleted' if "deletionTimestamp" in claim["metadata"] else None

    def _mountable(self, pod: Raw) -> bool:
        claims = (self._mirror.get(self.namespace, "PersistentVolumeClaim", name) for name in _claims(pod))
        maps = (self._mirror.get(self.namespace, "ConfigMap", name) for name in _config_maps(pod))
        return all(claims) and all(maps)

    async def _start(self, pod: Raw) -> None:
        address = self.addresses.get(job_of(pod), NOWHERE)
        conditions = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Ready", "ContainersReady")]
        found = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}
        await self._status(pod, found | containers(pod, {"running": {"startedAt": MOMENT}}))

    async def _end(self, pod: Raw) -> None:
        stage = stage_of(pod)
        ending = self.endings.get((job_of(pod), stage)) or self.endings.get(stage, Ending.SUCCEED)
        if stage in ENGINES or names.ENGINE_OF in pod["metadata"]["labels"] or ending == Ending.HOLD:
            return
        if ending == Ending.SUCCEED:
            message, code = {"reason": "Succeeded", "result": self._result(pod, stage)}, 0
        else:
            exit = Outcome.CONFIG_INVALID.exit
            message, code = {"reason": exit.reason, "message": "learningRate is absurd."}, exit.code
        phase = "Failed" if code else "Succeeded"
        await self._status(pod, {"phase": phase, **containers(pod, terminated(code, json.dumps(message)))})

    def _result(self, pod: Raw, stage: str) -> Raw | None:
        numbered = stage, pod["metadata"]["labels"].get(INDEX, "")
        if numbered in self.results:
            return self.results[numbered]
        if stage != "evaluate":
            return {"prepare": PREPARED, "train": TRAINED}[stage]
        told = EvaluationConfig.model_validate_json(self._file(pod, EVALUATION))
        return evaluated(told.id, **self.scores)

    def _file(self, pod: Raw, file: PurePosixPath) -> str:
        """A file as the stage's program sees it, out of the ConfigMap that is mounted there."""
        main = main_container(pod)
        mount = next(found for found in main["volumeMounts"] if PurePosixPath(found["mountPath"]) in file.parents)
        volume = next(found for found in pod["spec"]["volumes"] if found["name"] == mount["name"])["configMap"]
        data = self._mirror.get(self.namespace, "ConfigMap", volume["name"])
        assert data
        inside = str(file.relative_to(mount["mountPath"]))
        key = next((item["key"] for item in volume.get("items", []) if item["path"] == inside), inside)
        return str(data["data"][key])

    async def _status(self, raw: Raw, status: Raw) -> None:
        metadata = raw["metadata"]
        # Only if it is still the object that was looked at.
        patch = {"metadata": {"uid": metadata["uid"]}, "status": status}
        await self._api.patch(raw["kind"], self.namespace, metadata["name"], patch, "status")


def stage_of(pod: Raw) -> str:
    return str(pod["metadata"].get("labels", {}).get(names.STAGE, ""))


def job_of(pod: Raw) -> str:
    return str(pod["metadata"].get("labels", {}).get(names.JOB, ""))


def main_container(pod: Raw) -> Raw:
    """The stage's container, whatever else was put into the pod."""
    containers: list[Raw] = pod["spec"]["containers"]
    wanted = (stage_of(pod), names.ENGINE)
    return next((found for found in containers if found["name"] in wanted), containers[0])


def _claims(pod: Raw) -> list[str]:
    volumes = pod["spec"].get("volumes", [])
    return [found["persistentVolumeClaim"]["claimName"] for found in volumes if "persistentVolumeClaim" in found]


def _config_maps(pod: Raw) -> list[str]:
    return [found["configMap"]["name"] for found in pod["spec"].get("volumes", []) if "configMap" in found]


def terminated(code: int, message: str) -> Raw:
    ended = {"exitCode": code, "reason": "Error" if code else "Completed", "message": message}
    return {"terminated": ended | {"startedAt": MOMENT, "finishedAt": MOMENT}}


def containers(pod: Raw, state: Raw) -> Raw:
    """The statuses of all containers; only the stage's own leaves a message."""

    def status(container: Raw) -> Raw:
        mine = container is main_container(pod) or "terminated" not in state
        found = state if mine else {"terminated": state["terminated"] | {"message": ""}}
        given: dict[str, Any] = {"name": container["name"], "image": container["image"], "imageID": "i"}
        return given | {"ready": "running" in state, "restartCount": 0, "state": found}

    return {"containerStatuses": [status(container) for container in pod["spec"]["containers"]]}


def _without_time(condition: Raw) -> Raw:
    return {key: value for key, value in condition.items() if key in ("type", "status", "reason", "message")}
