"""Which keys sign and verify an artifact, and what is said of those that can't."""

import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data import signing
from signing_keys import keys

PREFIX = "FINETUNE_OUTPUT_"


def refused(environment: dict[str, str]) -> str:
    with pytest.raises(StageError) as error:
        signing.signer(environment)
    assert error.value.outcome == Outcome.CONFIG_INVALID
    return error.value.message


def unverified(artifact: Path, key: Path) -> str:
    with pytest.raises(StageError) as error:
        signing.verify("s3://models/recipes", artifact, key)
    return error.value.message


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    directory = tmp_path / "artifact"
    (directory / "merged").mkdir(parents=True)
    (directory / "merged/model.safetensors").write_bytes(b"weights")
    # Git would look past it, an engine would not.
    (directory / ".gitattributes").write_text("*.safetensors filter=lfs")
    return directory


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_each_curve_signs(artifact: Path, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    pair = keys(tmp_path / "keys", made=ec.generate_private_key(curve))
    signing.signer({"SIGNING_KEY": pair.private}).sign(artifact, artifact / "model.sig")
    signing.verify("s3://models/recipes", artifact, pair.public)


def test_an_encrypted_key_signs_with_its_password(artifact: Path, tmp_path: Path) -> None:
    pair = keys(tmp_path / "keys", password="open")
    told = {PREFIX + "SIGNING_KEY": pair.private, PREFIX + "SIGNING_PASSWORD": "open"}
    signing.signer(told).sign(artifact, artifact / "model.sig")
    signing.verify("s3://models/recipes", artifact, pair.public)


@pytest.mark.parametrize("name", ["merged/model.safetensors", ".gitattributes", "merged/more.safetensors"])
def test_no_file_may_change_and_none_be_added(artifact: Path, tmp_path: Path, name: str) -> None:
    pair = keys(tmp_path / "keys")
    signing.signer({"SIGNING_KEY": pair.private}).sign(artifact, artifact / "model.sig")
    (artifact / name).write_text("other")
    assert name in unverified(artifact, pair.public)


def test_what_is_no_signature_is_refused(artifact: Path, tmp_path: Path) -> None:
    pair = keys(tmp_path / "keys")
    assert unverified(artifact, pair.public) == "s3://models/recipes is not signed: it has no model.sig."
    for text in ("", "{}", '{"dsseEnvelope": {}}', "[1]"):
        (artifact / "model.sig").write_text(text)
        assert unverified(artifact, pair.public).startswith("s3://models/recipes is not what was signed with the key")


def test_a_key_that_is_missing_is_said_to_be() -> None:
    assert refused({}) == "output.sign needs a private key, and there is none: SIGNING_KEY has to hold it."


def test_what_is_no_key_is_said_to_be_and_is_not_told(tmp_path: Path) -> None:
    told = "SIGNING_KEY, which output.sign names, is no private key of an elliptic curve (P-256, P-384 or P-521) in PEM"
    other = keys(tmp_path / "ed25519", made=ed25519.Ed25519PrivateKey.generate())
    odd = keys(tmp_path / "odd", made=ec.generate_private_key(ec.SECP256K1()))
    assert {refused({"SIGNING_KEY": key}) for key in ("canary", other.private, odd.private)} == {f"{told}."}
    locked = keys(tmp_path / "locked", password="open").private
    wrong = refused({"SIGNING_KEY": locked, "SIGNING_PASSWORD": "canary"})
    assert wrong == f"{told}, or SIGNING_PASSWORD does not open it."


def test_a_password_that_is_missing_or_too_much_is_told(tmp_path: Path) -> None:
    locked, plain = keys(tmp_path / "locked", password="open"), keys(tmp_path / "plain")
    told = "SIGNING_KEY, which output.sign names,"
    assert refused({"SIGNING_KEY": locked.private}) == (
        f"{told} is encrypted: SIGNING_PASSWORD has to hold its password."
    )
    assert refused({"SIGNING_KEY": plain.private, "SIGNING_PASSWORD": "open"}) == (
        f"{told} is not encrypted: remove SIGNING_PASSWORD."
    )


def test_a_public_key_that_is_none_is_told(artifact: Path, tmp_path: Path) -> None:
    private = tmp_path / "signing.key"
    private.write_text(keys(tmp_path / "keys").private)
    missing = tmp_path / "missing.pub"
    assert unverified(artifact, missing) == f"There is no file {missing}: --verify-key names a public key in PEM."
    assert unverified(artifact, private).startswith(f"{private} is no public key of an elliptic curve")


def test_without_the_library_it_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    pair = keys(tmp_path / "keys")
    told = "needs the package model-signing: install finetune-operator[sign]."
    assert refused({"SIGNING_KEY": pair.private}) == f"output.sign {told}"
    assert unverified(tmp_path, pair.public) == f"--verify-key {told}"


def test_a_key_is_not_in_what_a_signer_shows_of_itself(tmp_path: Path) -> None:
    pair = keys(tmp_path / "keys")
    assert "PRIVATE" not in repr(signing.signer({"SIGNING_KEY": pair.private}))
