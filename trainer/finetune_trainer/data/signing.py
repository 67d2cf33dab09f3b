"""Signs an artifact with a key of the user's, and verifies such a signature: OpenSSF Model Signing, by its own library.

The stage publish signs, `finetune fetch --verify-key` verifies. model.sig covers all files of the artifact, those
included that its digest leaves out. The key comes from the environment, is held to be one before anything is written,
and lies in a file of the machine's memory for the moment in which the library reads it.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from finetune_trainer.contract.config import SIGNATURE, SIGNING_KEYS
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.published import CLAIM, MANIFEST

KEY, PASSWORD = SIGNING_KEYS
PREFIX = "FINETUNE_OUTPUT_"
# What lies beside an artifact once it is published, and is no part of it.
UNSIGNED = (SIGNATURE, CLAIM, MANIFEST)
MEMORY = Path("/dev/shm")  # noqa: S108  (in a pod an emptyDir of its own)
CURVES = ("secp256r1", "secp384r1", "secp521r1")
KIND = "of an elliptic curve (P-256, P-384 or P-521) in PEM"


@dataclass(frozen=True)
class Signer:
    """A private key. `public`: the SHA-256 of its public one, as model.sig names it."""

    public: str
    pem: bytes = field(repr=False)
    password: bytes | None = field(repr=False)

    def sign(self, artifact: Path, signature: Path) -> None:
        """Write the signature of a directory."""
        from model_signing import signing

        config = signing.Config().set_hashing_config(_hashing())
        with NamedTemporaryFile(dir=MEMORY if MEMORY.is_dir() else None) as key:
            key.write(self.pem)
            key.flush()
            # The library hands the password on to cryptography, which wants bytes, though it says str.
            password: Any = self.password
            config.use_elliptic_key_signer(private_key=key.name, password=password)
        config.sign(artifact, signature)


def signer(environment: Mapping[str, str] = os.environ) -> Signer:
    """The one that output.sign names. Raises StageError (CONFIG_INVALID) for what is no key."""
    pem, password = (environment.get(PREFIX + name) or environment.get(name) for name in SIGNING_KEYS)
    if not pem:
        raise _invalid(f"output.sign needs a private key, and there is none: {KEY} has to hold it.")
    secret = password.encode() if password else None
    with _installed("output.sign"):
        import model_signing  # noqa: F401  (said before the artifact is copied)
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    try:
        key: Any = load_pem_private_key(pem.encode(), secret)
    except TypeError:
        said = (
            f"is not encrypted: remove {PASSWORD}" if secret else f"is encrypted: {PASSWORD} has to hold its password"
        )
        raise _invalid(f"{KEY}, which output.sign names, {said}.") from None
    except ValueError:
        # What was wrong, the library says with parts of what it was given.
        key = None
    if _curve(key) not in CURVES:
        opened = f", or {PASSWORD} does not open it" if secret else ""
        raise _invalid(f"{KEY}, which output.sign names, is no private key {KIND}{opened}.")
    return Signer(_hint(key.public_key()), pem.encode(), secret)


def verify(uri: str, artifact: Path, key: Path) -> None:
    """Hold a directory that was fetched against its model.sig. Raises StageError."""
    with _installed("--verify-key"):
        from cryptography.exceptions import InvalidSignature
        from model_signing import verifying
    _check_public(key)
    if not (artifact / SIGNATURE).exists():
        raise unsigned(uri)
    config = verifying.Config().set_hashing_config(_hashing()).use_elliptic_key_verifier(public_key=key)
    try:
        config.verify(artifact, artifact / SIGNATURE)
    except (ValueError, KeyError, TypeError, InvalidSignature) as error:
        message = (
            f"{uri} is not what was signed with the key of {key}: {str(error).strip() or 'the signature differs.'}"
        )
        raise StageError(Outcome.DATA_INVALID, message) from error


def unsigned(uri: str) -> StageError:
    """That nobody has signed it."""
    return StageError(Outcome.DATA_INVALID, f"{uri} is not signed: it has no {SIGNATURE}.")


def _check_public(path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        found: Any = load_pem_public_key(path.read_bytes())
    except FileNotFoundError as error:
        raise _invalid(f"There is no file {path}: --verify-key names a public key in PEM.") from error
    except ValueError:
        found = None
    if _curve(found) not in CURVES:
        raise _invalid(f"{path} is no public key {KIND}.")


def _curve(key: Any) -> str:
    return getattr(getattr(key, "curve", None), "name", "")


def _hint(public: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _hashing() -> Any:
    """Every file counts, those that git would look past included."""
    from model_signing import hashing

    return hashing.Config().set_ignored_paths(paths=UNSIGNED, ignore_git_paths=False)


@contextmanager
def _installed(asking: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise _invalid(f"{asking} needs the package model-signing: install finetune-operator[sign].") from error


def _invalid(message: str) -> StageError:
    return StageError(Outcome.CONFIG_INVALID, message)
