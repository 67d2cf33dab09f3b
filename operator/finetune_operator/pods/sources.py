"""What a manifest's URIs are to a pod: a mounted path, the claim or ConfigMap behind it, and the keys to fetch with."""

from collections.abc import Iterable
from pathlib import Path

from finetune_trainer.contract.config import Source
from finetune_trainer.contract.schemes import CLAIMS, scheme_of

from finetune_operator import names
from finetune_operator.api.model import Credentials
from finetune_operator.pods.environment import Variable, from_secret
from finetune_operator.pods.mounts import Mount

CONFIG_MAPS = Path("/mnt/configmaps")
_CLAIM, _CONFIG_MAP, _FILE = "pvc://", "configmap://", "file://"


def source(uri: str, checksum: str | None = None) -> Source:
    """The URI, and the path where pods (or the local machine) have it; no path for what has to be fetched."""
    return Source(uri=uri, path=_path(uri), checksum=checksum)


def claim_of(uri: str) -> str | None:
    """The user's PersistentVolumeClaim in a pvc:// URI."""
    return uri.removeprefix(_CLAIM).partition("/")[0] if uri.startswith(_CLAIM) else None


def config_map_of(uri: str) -> str | None:
    """The user's ConfigMap in a configmap:// URI."""
    return uri.removeprefix(_CONFIG_MAP).partition("/")[0] if uri.startswith(_CONFIG_MAP) else None


def user_mounts(uris: Iterable[str], written: str = "") -> list[Mount]:
    """The user's claims and config maps that the URIs name, each once. `written`: the URI of what is written to.

    Any other claim itself is read-only, not just its mount, or the kubelet would hand the user's files to the pod's
    group.
    """
    uris = list(uris)
    claims = sorted({claim for uri in (*uris, written) if (claim := claim_of(uri))})
    config_maps = sorted({name for uri in uris if (name := config_map_of(uri))})
    return [
        *(_claim(claim, read_only=claim != claim_of(written)) for claim in claims),
        *(
            Mount(f"configmap-{names.digest(name)}", {"configMap": {"name": name}}, CONFIG_MAPS / name, read_only=True)
            for name in config_maps
        ),
    ]


def _claim(claim: str, read_only: bool) -> Mount:
    source = {"claimName": claim} | ({"readOnly": True} if read_only else {})
    return Mount(f"claim-{names.digest(claim)}", {"persistentVolumeClaim": source}, CLAIMS / claim, read_only)


def credentials(prefix: str, given: Credentials | None, uris: Iterable[str]) -> list[Variable]:
    """The keys that the URIs may need, as variables that begin with `prefix`, by reference to the Secret."""
    if given is None:
        return []
    # The order in which the addresses are written, each scheme once.
    asked = dict.fromkeys(scheme for uri in uris if (scheme := scheme_of(uri)))
    return [
        from_secret(prefix, given.secret_ref.name, key, key not in scheme.required)
        for scheme in asked
        for key in scheme.keys
    ]


def _path(uri: str) -> Path | None:
    for scheme, root in ((_CLAIM, CLAIMS), (_CONFIG_MAP, CONFIG_MAPS), (_FILE, Path())):
        if uri.startswith(scheme):
            return root / uri.removeprefix(scheme)
    return None
