"""What the local backend makes of a manifest: what it reads, and what it says of a bad one."""

import json
from pathlib import Path
from typing import Any

import pytest
from bad_manifests import BAD
from finetune_operator.api.load import ManifestError, load_manifest
from finetune_operator.api.v1alpha1 import FineTuneJob
from finetune_operator.api.values import seconds
from good_manifests import GOOD
from manifests import EMPTY, SMALLEST, Bad, manifest
from paths import EXAMPLES, FINETUNEJOBS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "job.yaml"


def refused(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(ManifestError) as raised:
        load_manifest(path)
    return str(raised.value)


def loaded(path: Path, document: dict[str, Any]) -> FineTuneJob:
    path.write_text(json.dumps(document))
    return load_manifest(path)


@pytest.mark.parametrize("bad", [bad for bad in BAD if not bad.cluster_only], ids=lambda bad: bad.name)
def test_a_bad_manifest_is_refused_by_field_and_sentence(bad: Bad, path: Path) -> None:
    said = refused(path, json.dumps(bad.manifest()))
    assert said.startswith(f"{path}: {bad.names}: ")
    assert bad.local in said
    assert bad.allowed in said


@pytest.mark.parametrize("bad", [bad for bad in BAD if bad.cluster_only], ids=lambda bad: bad.name)
def test_what_only_a_cluster_refuses_is_accepted(bad: Bad, path: Path) -> None:
    loaded(path, bad.manifest())


@pytest.mark.parametrize("fields", GOOD.values(), ids=GOOD.keys())
def test_a_good_manifest_is_read(fields: dict[str, Any], path: Path) -> None:
    loaded(path, manifest(fields))


@pytest.mark.parametrize("example", FINETUNEJOBS, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_every_example_is_read(example: Path) -> None:
    assert load_manifest(example).spec


def test_what_is_left_empty_is_as_good_as_left_out(path: Path) -> None:
    spec = loaded(path, manifest(EMPTY)).spec
    assert spec.model_dump(exclude_defaults=True) == loaded(path, SMALLEST).spec.model_dump(exclude_defaults=True)


def test_a_long_value_is_not_repeated(path: Path) -> None:
    said = refused(path, json.dumps(manifest({"spec.dataset.systemPrompt": "word " * 20000})))
    assert said.endswith("word word…)")
    assert len(said) < 300


def test_everything_wrong_is_told_at_once(path: Path) -> None:
    document = manifest({"spec.model.source": "nowhere", "spec.training.seed": -1, "spec.training.pod.env": [{}]})
    assert [line.partition(": ")[0].strip() for line in refused(path, json.dumps(document)).splitlines()] == [
        f"{path}:",
        "spec.model.source",
        "spec.training.seed",
        "spec.training.pod.env[0].name",
    ]


def test_what_kubectl_gets_from_a_cluster_can_be_run_again(path: Path) -> None:
    metadata = {"name": "recipes", "uid": "1", "labels": {"team": "a"}, "creationTimestamp": "2026-01-01T00:00:00Z"}
    status = {"observedGeneration": 1, "phase": "Pending", "conditions": []}
    job = loaded(path, {**SMALLEST, "metadata": metadata, "status": status})
    assert job.metadata.name == "recipes"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has 0 documents; put one FineTuneJob in a file of its own."),
        ("a: 1\n---\nb: 2\n", "has 2 documents; put one FineTuneJob in a file of its own."),
        ("a: [1\n", "is not YAML: while parsing a flow sequence"),
        ("a: 1\na: 2\n", "is not YAML: a stands twice"),
        ("hello\n", "the document: must be an object"),
        ("apiVersion: v1\n", "apiVersion: must be 'finetune.dev/v1alpha1' (it is \"v1\")"),
    ],
)
def test_a_file_that_is_no_manifest_is_told_so(text: str, sentence: str, path: Path) -> None:
    said = refused(path, text)
    assert said.startswith(f"{path}:")
    assert sentence in said


def test_a_file_that_cannot_be_read_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"nothing.yaml: can't be read \(No such file or directory\)\."):
        load_manifest(tmp_path / "nothing.yaml")
    (tmp_path / "picture.yaml").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ManifestError, match=r"picture.yaml: is not a text file in UTF-8\."):
        load_manifest(tmp_path / "picture.yaml")


@pytest.mark.parametrize(("duration", "expected"), [("90m", 5400), ("6h", 21600), ("1h30m5s", 5405), ("45s", 45)])
def test_a_duration_is_seconds(duration: str, expected: int) -> None:
    assert seconds(duration) == expected
