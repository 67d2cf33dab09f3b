"""The schemes of addresses: what each can be an address of, what it is asked with, and what has to be installed for it.

The one table of them. The manifest's patterns and sentences (the operator's `api/values`), the keys that are taken from
Secrets (`pods/sources`), docs/addresses.md and what asks them (`data/bucket`) all follow from it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Where pods have the claims of pvc://, each in a directory of its name.
CLAIMS = Path("/mnt/claims")


@dataclass(frozen=True)
class Scheme:
    """`model`, `dataset`, `output`, `bucket`: how an address of one is written, behind the ://; nothing where it can't
    be one. `bucket`: where workspaces are kept.

    `keys`: of a Secret, as environment variables; a Secret that lacks one of `required` is refused before anything is
    asked. `entry`: the keys any of which may let one in; a refusal names the one that was given, or the first.
    `library` and `extra`: what asks it, and how pip installs that; none for what is mounted.
    """

    name: str
    model: tuple[str, ...] = ()
    dataset: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    bucket: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    entry: tuple[str, ...] = ()
    library: str | None = None
    extra: str | None = None

    @property
    def remote(self) -> bool:
        """Whether it is asked over a network."""
        return self.library is not None


SCHEMES = (
    Scheme(
        "hf",
        model=("ORG/NAME",),
        dataset=("datasets/ORG/NAME/FILE",),
        output=("ORG/NAME",),
        keys=("HF_TOKEN", "HF_ENDPOINT"),
        required=("HF_TOKEN",),
        entry=("HF_TOKEN",),
        library="huggingface_hub",
        extra="data",
    ),
    Scheme(
        "s3",
        model=("BUCKET/PREFIX",),
        dataset=("BUCKET/KEY",),
        output=("BUCKET/PREFIX",),
        bucket=("BUCKET/PREFIX",),
        keys=(
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_REGION",
            "AWS_ENDPOINT_URL",
        ),
        required=("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        entry=("AWS_ACCESS_KEY_ID",),
        library="s3fs",
        extra="data",
    ),
    Scheme(
        "gs",
        model=("BUCKET/PREFIX",),
        dataset=("BUCKET/KEY",),
        output=("BUCKET/PREFIX",),
        bucket=("BUCKET/PREFIX",),
        keys=("GOOGLE_APPLICATION_CREDENTIALS_JSON", "STORAGE_EMULATOR_HOST"),
        required=("GOOGLE_APPLICATION_CREDENTIALS_JSON",),
        entry=("GOOGLE_APPLICATION_CREDENTIALS_JSON",),
        library="gcsfs",
        extra="gs",
    ),
    Scheme(
        "abfs",
        model=("CONTAINER/PREFIX",),
        dataset=("CONTAINER/KEY",),
        output=("CONTAINER/PREFIX",),
        bucket=("CONTAINER/PREFIX",),
        keys=(
            "AZURE_STORAGE_CONNECTION_STRING",
            "AZURE_STORAGE_ACCOUNT_NAME",
            "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_SAS_TOKEN",
            "AZURE_STORAGE_TENANT_ID",
            "AZURE_STORAGE_CLIENT_ID",
            "AZURE_STORAGE_CLIENT_SECRET",
        ),
        entry=(
            "AZURE_STORAGE_CONNECTION_STRING",
            "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_SAS_TOKEN",
            "AZURE_STORAGE_CLIENT_SECRET",
        ),
        library="adlfs",
        extra="abfs",
    ),
    Scheme(
        "oci",
        model=("REGISTRY/REPO:TAG",),
        dataset=("REGISTRY/REPO:TAG/FILE",),
        output=("REGISTRY/REPO",),
        keys=("REGISTRY_USERNAME", "REGISTRY_PASSWORD", "REGISTRY_PLAIN_HTTP"),
        required=("REGISTRY_USERNAME", "REGISTRY_PASSWORD"),
        entry=("REGISTRY_PASSWORD",),
        library="httpx",
        extra="data",
    ),
    Scheme("https", dataset=("HOST/PATH",), library="httpx", extra="data"),
    Scheme("pvc", model=("CLAIM/PATH",), dataset=("CLAIM/PATH",), output=("CLAIM/PATH",)),
    Scheme("configmap", dataset=("NAME/KEY",)),
    Scheme("ftj", model=("NAME", "NAME/REVISION")),
)
# What a Secret with credentials may hold. In a pod each has its owner before it: FINETUNE_MODEL_HF_TOKEN.
CREDENTIAL_KEYS = tuple(key for scheme in SCHEMES for key in scheme.keys)


def scheme_of(uri: str) -> Scheme | None:
    """The scheme of an address; None for one that the table doesn't have."""
    return next((scheme for scheme in SCHEMES if uri.startswith(f"{scheme.name}://")), None)


def forms(kind: str) -> list[str]:
    """How the address of a model, a dataset or an output can be written."""
    return [f"{scheme.name}://{form}" for scheme in SCHEMES for form in getattr(scheme, kind)]


def remote(kind: str) -> list[str]:
    """The addresses of models or datasets that are fetched, by their beginning."""
    return [f"{scheme.name}://" for scheme in SCHEMES if scheme.remote and getattr(scheme, kind)]


def keyed(kind: str) -> list[str]:
    """Those of them that may need credentials."""
    return [f"{scheme.name}://" for scheme in SCHEMES if scheme.keys and getattr(scheme, kind)]


def within(uri: str) -> str:
    """What follows the ://, without a slash at its end."""
    return uri.partition("://")[2].rstrip("/")


def listed(words: Iterable[str], last: str = "or") -> str:
    """a, b or c."""
    *first, end = words
    return f"{', '.join(first)} {last} {end}" if first else end
