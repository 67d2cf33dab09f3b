"""`finetune fetch` of what lies on a volume of a cluster: by a pod that mounts it, verified, all of it or nothing."""

import errno
import json
import os
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from finetune_cli.cluster import Cluster
from finetune_cli.errors import UserError
from finetune_cli.fetch import fetch_artifact
from finetune_cli.kubectl import Kubectl
from finetune_operator.api.status import ArtifactStatus, FineTuneJobStatus
from finetune_operator.finetunejob.stages import JOBS
from finetune_trainer.contract.published import Claim, Manifest, written
from finetune_trainer.contract.results import ArtifactInfo
from finetune_trainer.data import digests
from rendering import target
from restricted import bounded, violations
from rich.console import Console

FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights", "deep/README.md": b"# Recipes"}
FOUND = target("recipes")
WORKSPACE = f"recipes-{FOUND.revision}/artifact"
PUBLISHED = f"models/recipes/{FOUND.revision}"


class Claims:
    """A cluster's claims, which a kubectl reads that runs tar where a pod would have them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.has(f"pvc://{WORKSPACE}")
        template = JOBS["train"].job(FOUND, "inputs")["spec"]["template"]
        (root / "job.json").write_text(json.dumps({"spec": {"template": template}}))
        (root / "pod.json").write_text(json.dumps({"metadata": {"name": "reader-1"}}))
        program = root / "kubectl"
        program.write_text(f"""#!/bin/sh
cd {root}
echo "$@" >> asked
case "$*" in
  *"get finetunejobs"*) cat ftj.json;;
  *"get job recipes-{FOUND.revision}-train "*) cat job.json;;
  *"create -f"*) cat > made.json; cat pod.json;;
  *"exec reader-1 --container=fetch -- "*) shift 5
    exec "$1" "$2" "$3" "$4" "$(echo "$5" | sed s,/mnt/fetched,{root}/mounted,)" "$6";;
esac
""")
        program.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        return (self.root / "asked").read_text().splitlines()

    @property
    def pod(self) -> Any:
        """The one that was made."""
        return json.loads((self.root / "made.json").read_text())

    def has(self, uri: str, digest: str = "", **more: bytes) -> None:
        """An artifact lies at an address, and the status says so."""
        path = uri.removeprefix("pvc://").partition("/")[2]
        directory = self.root / "mounted" / path
        for name, content in (FILES | more).items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(content)
        status = ArtifactStatus(uri=uri, digest=digest or digests.digest(directory), bytes=2_500_000)
        document = FineTuneJobStatus(artifact=status, revision=FOUND.revision).model_dump(mode="json", by_alias=True)
        found = {"metadata": {"name": "recipes"}, "spec": {}, "status": document}
        (self.root / "ftj.json").write_text(json.dumps(found))

    def publish(self) -> None:
        """As the stage publish would, to a claim."""
        uri = f"pvc://{PUBLISHED}"
        self.has(uri)
        there = self.root / "mounted/recipes" / FOUND.revision
        files = {name: digests.of_file(there / name) for name in FILES}
        info = ArtifactInfo(digest=digests.digest(there), bytes=2_500_000)
        manifest = Manifest(name="recipes", revision=FOUND.revision, artifact=info, files=files, base_model="hf://a/b")
        (there / "manifest.json").write_bytes(written(manifest))
        (there / "claim.json").write_bytes(written(Claim(name="recipes", owner="the-uid")))


@pytest.fixture
def claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Claims:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PATH", f"{tmp_path / 'cluster'}:{os.environ['PATH']}")
    return Claims(tmp_path / "cluster")


def fetch(key: Path | None = None) -> str:
    said = StringIO()
    fetch_artifact("recipes", None, Cluster("kitchen"), Console(file=said, width=300), key)
    return said.getvalue()


def unfetched(key: Path | None = None) -> str:
    with pytest.raises(UserError) as error:
        fetch(key)
    assert list(Path().iterdir()) == []
    return error.value.message


def here(directory: str) -> dict[str, bytes]:
    found = [path for path in Path(directory).rglob("*") if path.is_file()]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}


def test_what_lies_on_the_workspaces_volume_is_fetched(claims: Claims) -> None:
    digest = digests.digest(claims.root / "mounted/artifact")
    assert fetch() == f"{FOUND.revision} is revision {FOUND.revision} of recipes, 2.5 MB, as it was trained: {digest}\n"
    assert here(FOUND.revision) == FILES
    assert claims.asked[-1] == "--namespace=kitchen delete pod/reader-1 --wait=false --ignore-not-found"


def test_a_file_that_has_two_names_comes_under_both(claims: Claims) -> None:
    artifact = claims.root / "mounted/artifact"
    (artifact / "model.safetensors").hardlink_to(artifact / "adapter_model.safetensors")
    claims.has(f"pvc://{WORKSPACE}")
    fetch()
    assert here(FOUND.revision) == FILES | {"model.safetensors": b"weights"}


def test_what_was_published_to_a_claim_is_fetched(claims: Claims) -> None:
    claims.publish()
    first, second = fetch().splitlines()
    assert first.startswith(f"{FOUND.revision} is revision {FOUND.revision} of recipes, 2.5 MB, as published: sha256:")
    assert second == "Its base model is hf://a/b."
    assert here(FOUND.revision) == FILES


@pytest.mark.parametrize("published", [False, True], ids=["workspace", "published"])
def test_the_pod_mounts_the_claim_to_read_only_and_is_none_of_a_stage(claims: Claims, published: bool) -> None:
    if published:
        claims.publish()
    fetch()
    spec = claims.pod["spec"]
    claim = "models" if published else f"recipes-{FOUND.revision}"
    assert spec["volumes"] == [{"name": "fetched", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}]
    assert violations(spec) == []
    assert "labels" not in claims.pod["metadata"]
    (container,) = spec["containers"]
    assert "env" not in container
    assert bounded(container)


def test_what_differs_is_refused(claims: Claims) -> None:
    claims.has(f"pvc://{WORKSPACE}", digest="sha256:0")
    found = digests.digest(claims.root / "mounted/artifact")
    told = f"pvc://{WORKSPACE} is not what was trained: its digest is {found}, and status has sha256:0."
    assert unfetched() == told
    claims.publish()
    (claims.root / "mounted/recipes" / FOUND.revision / "adapter_config.json").write_bytes(b"[]")
    assert unfetched() == f"pvc://{PUBLISHED}/adapter_config.json is not what was published: its digest differs."
    (claims.root / "mounted/recipes" / FOUND.revision / "adapter_config.json").unlink()
    assert unfetched() == f"pvc://{PUBLISHED} is not what was published: it lacks adapter_config.json."
    (claims.root / "mounted/recipes" / FOUND.revision / "manifest.json").unlink()
    assert unfetched() == f"pvc://{PUBLISHED} has no manifest.json: nothing was published there, or not all of it yet."


def test_what_is_not_there_or_comes_in_part_is_told(claims: Claims) -> None:
    there = claims.root / "mounted/artifact"
    there.rename(claims.root / "mounted/elsewhere")
    assert "kubectl exec reader-1: " in (told := unfetched())
    assert "No such file or directory" in told
    # As a connection that breaks off.
    kubectl = claims.root / "kubectl"
    kubectl.write_text(
        kubectl.read_text().replace(
            'case "$*" in', "case \"$*\" in\n  *exec*) head -c 700 /dev/zero | tr '\\0' x; exit;;"
        )
    )
    assert unfetched() == f"pvc://{WORKSPACE} came in part: invalid header. Try again."


def test_what_went_wrong_here_is_told_and_not_how_kubectl_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "kubectl"
    program.write_text("#!/bin/sh\ntrap 'exit 143' TERM\necho started\nwhile :; do sleep 0.1; done\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def full() -> None:
        with Kubectl().bytes("exec") as stream:
            assert stream.readline() == b"started\n"
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        full()


def test_where_no_pod_shows_how_a_sentence_says_what_to_do(claims: Claims) -> None:
    (claims.root / "job.json").write_text("")
    assert unfetched() == (
        f"The Jobs of revision {FOUND.revision} are gone (ttlAfterFinished), and no engine of it is there whose pods "
        f"could show how to read PersistentVolumeClaim recipes-{FOUND.revision}. Have a pod of yours mount it, and "
        "copy artifact from there."
    )


def test_what_is_on_a_volume_is_signed_only_where_it_was_published(claims: Claims, tmp_path: Path) -> None:
    assert unfetched(tmp_path / "key") == f"pvc://{WORKSPACE} is not signed: it has no model.sig."
    claims.publish()
    assert unfetched(tmp_path / "key") == f"pvc://{PUBLISHED} is not signed: it has no model.sig."


def test_a_fetch_that_is_stopped_leaves_nothing(claims: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Cluster.copy

    def stopped(*asked: Any) -> None:
        copy(*asked)
        raise KeyboardInterrupt

    monkeypatch.setattr(Cluster, "copy", stopped)
    with pytest.raises(KeyboardInterrupt):
        fetch()
    assert list(Path().iterdir()) == []
