"""Under which license a base model is, as its card says: on the hub at a commit, and where it is mounted."""

from pathlib import Path

import pytest
from finetune_trainer.contract.config import ModelConfig, Source
from finetune_trainer.data import licenses
from hub import Hub, Repository, listening

COMMIT = "1" * 40


@pytest.mark.parametrize(
    ("card", "name"),
    [
        ({"license": "apache-2.0"}, "apache-2.0"),
        ({"license": "other", "license_name": "acme-open"}, "acme-open"),
        ({"license": "other"}, "other"),
        ({"license": ["mit", "apache-2.0"]}, None),
        ({}, None),
    ],
    ids=str,
)
def test_a_hubs_card_says_it(monkeypatch: pytest.MonkeyPatch, card: dict[str, object], name: str | None) -> None:
    with listening(Hub({"acme/tiny": Repository({COMMIT: {}}, {"main": COMMIT}, card=card)})) as hub:
        monkeypatch.setenv("FINETUNE_MODEL_HF_ENDPOINT", hub.endpoint)
        assert licenses.of(ModelConfig(source=Source(uri="hf://acme/tiny")), COMMIT) == name


@pytest.mark.parametrize(
    ("card", "name"),
    [
        ("---\nlicense: mit\n---\n# Tiny\n", "mit"),
        ("# Tiny\n", None),
        ("---\nlicense: [\n---\n", None),
        ("---\n- mit\n---\n", None),
        (None, None),
    ],
    ids=str,
)
def test_a_card_beside_mounted_weights_says_it_and_one_that_can_not_be_read_stops_nothing(
    tmp_path: Path, card: str | None, name: str | None
) -> None:
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert licenses.of(ModelConfig(source=Source(uri="pvc://models/tiny", path=tmp_path)), None) == name


def test_of_a_bucket_no_card_is_fetched() -> None:
    assert licenses.of(ModelConfig(source=Source(uri="s3://models/tiny")), None) is None
