"""A node on which stages of some FineTuneJobs are real: the trainer's program, a process for each pod.

Used by `test_kueue`. What the kubelet does with a pod is done here: its volumes are directories, its ConfigMaps
files, its command starts; a pod that is deleted gets SIGTERM and, after its grace, SIGKILL; how the process ended and
its last word come into the pod's status. Paths of the container are written anew, since no file system is mounted.
"""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from api_client import Raw
from finetune_trainer.contract.outcome import TERMINATION_LOG
from node import Node, containers, job_of, main_container, stage_of, terminated

# Their engine is played as others' are.
STAGES = ("prepare", "train")


@dataclass
class Program:
    """A pod's process. `code`: what it ended with, once the pod's status says so."""

    pod: str
    process: asyncio.subprocess.Process
    directory: Path
    stopping: bool = False
    code: int | None = None

    @property
    def log(self) -> str:
        """What it printed."""
        return (self.directory / "log").read_text()


class WorkingNode(Node):
    """`work` says whose stages are real, and where they are kept. `programs`: their processes, in their order."""

    def work(self, job: str, directory: Path, address: str) -> None:
        """Have the stages of a FineTuneJob run from now on; they tell their progress at this address."""
        self._directory, self.addresses[job] = directory, address
        self.programs: dict[str, Program] = {}
        self._begun: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def claim(self, name: str) -> Path:
        """The directory of a claim's volume."""
        found = self._directory / "claims" / name
        found.mkdir(parents=True, exist_ok=True)
        return found

    def of(self, stage: str) -> list[Program]:
        """The processes of a stage, the first one first."""
        return [found for found in self.programs.values() if f"-{stage}-" in found.pod]

    def __enter__(self) -> "WorkingNode":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing outlives the test."""
        for program in self.programs.values():
            self._kill(program)

    async def _start(self, pod: Raw) -> None:
        uid = pod["metadata"]["uid"]
        if job_of(pod) in self.addresses and stage_of(pod) in STAGES and uid not in self._begun:
            self._begun.add(uid)
            await self._begin(pod)
        await super()._start(pod)

    async def _end(self, pod: Raw) -> None:
        if pod["metadata"]["uid"] not in self._begun:
            await super()._end(pod)

    async def _stop(self, pod: Raw, phase: str) -> None:
        program = self.programs.get(pod["metadata"]["uid"])
        if program is None:
            await super()._stop(pod, phase)
        elif program.code is not None:
            await self._api.delete("Pod", self.namespace, program.pod, gracePeriodSeconds=0)
        elif not program.stopping:
            program.stopping = True
            program.process.terminate()
            grace = pod["metadata"]["deletionGracePeriodSeconds"]
            asyncio.get_running_loop().call_later(grace, self._kill, program)

    @staticmethod
    def _kill(program: Program) -> None:
        if program.process.returncode is None:
            program.process.kill()

    async def _begin(self, pod: Raw) -> None:
        container, name = main_container(pod), pod["metadata"]["name"]
        directory = self._directory / "pods" / name
        directory.mkdir(parents=True)
        places = self._mounted(pod, directory) | {TERMINATION_LOG: directory / "termination-log"}
        for file in directory.glob("*/*.json"):
            file.write_text(_placed(file.read_text(), places, before='"'))
        arguments = [_placed(each, places) for each in (*container["command"][1:], *container["args"])]
        variables = {each["name"]: each["value"] for each in container.get("env", []) if "value" in each}
        with (directory / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *arguments, "--status-host", self.addresses[job_of(pod)]),
                env={**os.environ, **variables},
                stdout=log,
                stderr=log,
            )
        program = self.programs[pod["metadata"]["uid"]] = Program(name, process, directory)
        task = asyncio.create_task(self._watch(pod, program))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _mounted(self, pod: Raw, directory: Path) -> dict[str, Path]:
        """Where the container sees each volume, and where it is."""
        volumes, found = {each["name"]: each for each in pod["spec"]["volumes"]}, {}
        for mount in main_container(pod)["volumeMounts"]:
            volume = volumes[mount["name"]]
            if "persistentVolumeClaim" in volume:
                found[mount["mountPath"]] = self.claim(volume["persistentVolumeClaim"]["claimName"])
            elif "configMap" in volume:
                found[mount["mountPath"]] = directory / mount["name"]
                self._write(volume["configMap"], directory / mount["name"])
        return found

    def _write(self, volume: Raw, directory: Path) -> None:
        """The files of a ConfigMap."""
        data = (self._mirror.get(self.namespace, "ConfigMap", volume["name"]) or {})["data"]
        directory.mkdir()
        for item in volume.get("items", [{"key": key, "path": key} for key in data]):
            (directory / item["path"]).write_text(data[item["key"]])

    async def _watch(self, pod: Raw, program: Program) -> None:
        """Tell how it ended."""
        code = await program.process.wait()
        left = program.directory / "termination-log"
        message = left.read_text() if left.exists() else ""
        # Killed by a signal, a container has 128 and its number.
        told = terminated(code if code >= 0 else 128 - code, message)
        await self._try(self._status(pod, {"phase": "Failed" if code else "Succeeded", **containers(pod, told)}))
        program.code = code
        await self.tick()


def _placed(text: str, places: dict[str, Path], before: str = "") -> str:
    """Text with the container's paths as they are on this machine."""
    for path, place in places.items():
        if before or text.startswith(path):
            text = text.replace(before + path, f"{before}{place}")
    return text
