"""What lies on a PersistentVolumeClaim comes to this machine, through a pod that mounts it to read only.

Used by `cluster`, for `finetune fetch`. The pod waits, and tar is run in it: what an archive may bring is files, and
none outside of where they belong.
"""

import shutil
import tarfile
from pathlib import Path
from typing import IO

from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.published import inside

from finetune_cli.kubectl import Raw
from finetune_cli.pods import container_like, pod_like

# Its container.
FETCH = "fetch"
MOUNTED = "/mnt/fetched"
FETCH_SECONDS = 4 * 3600


def holder(template: Raw, name: str, revision: str, claim: str) -> Raw:
    """A pod that has a claim, to read only, and nothing else."""
    source = {"claimName": claim, "readOnly": True}
    mount = {"name": "fetched", "mountPath": MOUNTED, "readOnly": True}
    waits = container_like(template["containers"][0], FETCH, "sleep", str(FETCH_SECONDS), volumeMounts=[mount])
    return pod_like(
        *(template, name, revision, FETCH, FETCH_SECONDS),
        restartPolicy="Never",
        volumes=[{"name": "fetched", "persistentVolumeClaim": source}],
        containers=[waits],
    )


def archived(path: str) -> tuple[str, ...]:
    """The command that writes a directory of the claim as an archive."""
    # Of a file with two names the second would come as a link, without content.
    return ("tar", "--create", "--hard-dereference", "--file=-", f"--directory={MOUNTED}/{path}", ".")


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
