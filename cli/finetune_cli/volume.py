"""What lies on a PersistentVolumeClaim comes to this machine, through a pod that mounts it to read only.

Used by `cluster`, for `finetune fetch`. The pod waits, and tar is run in it: what an archive may bring is files, and
none outside of where they belong.
"""

import shutil
import tarfile
from pathlib import Path
from typing import IO

from finetune_operator import names
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.published import inside

from finetune_cli.kubectl import Raw

MOUNTED = "/mnt/fetched"
# Whoever asked may be gone by then.
FETCH_SECONDS = 4 * 3600


def holder(template: Raw, name: str, revision: str, claim: str) -> Raw:
    """A pod that has a claim, made from the template of a pod of the revision's: same image, place and Pod Security."""
    container = template["containers"][0]
    kept = ("image", "imagePullPolicy", "securityContext")
    others = ("containers", "initContainers", "volumes", "schedulerName", "subdomain", "terminationGracePeriodSeconds")
    together = {
        "weight": 100,
        "podAffinityTerm": {
            "labelSelector": {"matchLabels": {names.JOB: name, names.REVISION: revision}},
            "topologyKey": "kubernetes.io/hostname",
        },
    }
    node = {key: value for key, value in template.get("affinity", {}).items() if key == "nodeAffinity"}
    source = {"claimName": claim, "readOnly": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": f"{names.of_revision(name, revision)}-fetch-"},
        "spec": {
            **{key: value for key, value in template.items() if key not in others},
            # It carries none of the labels that would make it a stage's: a preference is all that it can have.
            "affinity": {**node, "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [together]}},
            "restartPolicy": "Never",
            "activeDeadlineSeconds": FETCH_SECONDS,
            "terminationGracePeriodSeconds": 0,
            "volumes": [{"name": "fetched", "persistentVolumeClaim": source}],
            "containers": [
                {
                    "name": "fetch",
                    "command": ["sleep", str(FETCH_SECONDS)],
                    "volumeMounts": [{"name": "fetched", "mountPath": MOUNTED, "readOnly": True}],
                    **{key: container[key] for key in kept if key in container},
                }
            ],
        },
    }


def archived(path: str) -> tuple[str, ...]:
    """The command that writes a directory of the claim as an archive."""
    return ("tar", "--create", "--file=-", f"--directory={MOUNTED}/{path}", ".")


def unpack(stream: IO[bytes], directory: Path, uri: str) -> None:
    """Have an archive's files in a directory. Raises StageError where it ends too early or leads out of there."""
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is None:
                    continue
                local = directory / inside(member.name, uri)
                local.parent.mkdir(parents=True, exist_ok=True)
                with content, local.open("wb") as file:
                    shutil.copyfileobj(content, file)
    except tarfile.TarError as error:
        raise StageError(Outcome.UNAVAILABLE, f"{uri} came in part: {error}. Try again.") from error
