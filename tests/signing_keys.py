"""Pairs of keys as openssl makes them, for the tests of signatures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)


@dataclass(frozen=True)
class Keys:
    """The private one in PEM, and a file with the public one."""

    private: str
    public: Path


def keys(directory: Path, password: str = "", made: Any = None) -> Keys:
    """A pair of P-256, or of `made`."""
    key = made or ec.generate_private_key(ec.SECP256R1())
    encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    directory.mkdir()
    public = directory / "signing.pub"
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return Keys(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode(), public)
