"""The table of schemes, and that nothing else which knows schemes says otherwise."""

import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from finetune_operator.api.model import Credentials
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.schemes import SCHEMES, Scheme
from finetune_trainer.data import bucket, places
from paths import ROOT

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
REMOTE = [scheme for scheme in SCHEMES if scheme.remote]


def brought(extra: str) -> Iterator[str]:
    """The libraries of an extra, and of those that it stands on."""
    for requirement in EXTRAS[extra]:
        if requirement.startswith("finetune-operator["):
            yield from brought(requirement.partition("[")[2].rstrip("]"))
        yield requirement.partition(">")[0].replace("-", "_")


@pytest.mark.parametrize("scheme", REMOTE, ids=lambda scheme: scheme.name)
def test_a_schemes_library_comes_with_its_extra(scheme: Scheme) -> None:
    assert scheme.library in set(brought(scheme.extra or ""))
    default = (ROOT / "trainer/Dockerfile").read_text().partition("ARG EXTRAS=")[2].partition("\n")[0]
    assert scheme.library in {library for extra in default.split(",") for library in brought(extra)}


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_what_can_be_a_destination_is_what_can_be_published_to(scheme: Scheme) -> None:
    assert bool(scheme.output) == places.published_to(f"{scheme.name}://somewhere/else")


@pytest.mark.parametrize("scheme", [each for each in SCHEMES if each.keys], ids=lambda scheme: scheme.name)
def test_kubectl_explain_names_every_key(scheme: Scheme) -> None:
    told = Credentials.model_fields["secret_ref"].description or ""
    assert f"{scheme.name}://" in told
    assert [key for key in scheme.keys if key not in told] == []
    assert {*scheme.required, *scheme.entry} <= set(scheme.keys)


def test_a_library_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_spec("gcsfs")
    monkeypatch.setitem(sys.modules, "gcsfs.core", None)
    monkeypatch.delitem(sys.modules, "finetune_trainer.data.filesystems.gs", raising=False)
    with pytest.raises(StageError) as found:
        bucket.filesystem("gs://models/recipes", "output", {})
    assert found.value.outcome == Outcome.CONFIG_INVALID
    assert found.value.message == (
        "gs://models/recipes needs gcsfs, which is not installed: build the trainer's image with the extra gs, or on a "
        "laptop pip install 'finetune-operator[gs]'."
    )
