"""What a release publishes, but for its images: made by the script that the workflow runs, into a directory apart."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
import yaml
from api_client import Raw
from finetune_operator.shell.kinds import KINDS
from paths import ROOT

REGISTRY = "registry.example.com/finetune"
VERSION = str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
IMAGES = {f"{REGISTRY}/{name}:{VERSION}" for name in ("operator", "trainer", "vllm-cpu")}
BILLS = ("operator", "trainer", "vllm-cpu")
WHEEL = f"finetune_operator-{VERSION}-py3-none-any.whl"
SOURCE = f"finetune_operator-{VERSION}.tar.gz"
CHART = f"finetune-operator-{VERSION}.tgz"
PUBLISHED = {
    *(WHEEL, SOURCE, CHART, "crds.yaml", "finetune-operator.yaml", "SHA256SUMS"),
    *(f"{image}-{VERSION}.cdx.json" for image in BILLS),
}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make release-dry-run` leaves."""
    made = tmp_path_factory.mktemp("release") / "dist"
    environment = {**os.environ, "DIST": str(made), "REGISTRY": REGISTRY}
    script = subprocess.run([ROOT / "hack/release.sh"], env=environment, capture_output=True, text=True, check=False)
    assert script.returncode == 0, script.stdout + script.stderr
    return made


def documents(path: Path) -> list[Raw]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def test_all_is_there_that_is_published_and_has_the_digest_that_is_signed(dist: Path) -> None:
    assert {each.name for each in dist.iterdir()} == PUBLISHED
    told = dict(reversed(line.split()) for line in (dist / "SHA256SUMS").read_text().splitlines())
    found = {name: hashlib.sha256((dist / name).read_bytes()).hexdigest() for name in PUBLISHED - {"SHA256SUMS"}}
    assert told == found


def test_the_package_is_of_this_version_and_runs_from_nothing_else(dist: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(dist / WHEEL) as wheel:
        wheel.extractall(tmp_path)
    metadata = message_from_bytes((tmp_path / f"finetune_operator-{VERSION}.dist-info/METADATA").read_bytes())
    assert (metadata["Name"], metadata["Version"]) == ("finetune-operator", VERSION)
    with tarfile.open(dist / SOURCE) as source:
        assert {name.partition("/")[0] for name in source.getnames()} == {f"finetune_operator-{VERSION}"}
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    where = "import finetune_server, finetune_cli; print(finetune_server.__file__, finetune_cli.__file__)"
    program = "import sys; from finetune_cli.main import app; sys.argv = ['finetune', '--version']; app()"
    for code, said in ((program, VERSION), (where, str(tmp_path))):
        command = [sys.executable, "-c", code]
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert said in ran.stdout, ran.stderr
    # What the page needs is no module.
    assert list((tmp_path / "finetune_server/ui/static").glob("htmx*"))


def test_the_chart_is_of_this_version_and_names_the_images_where_they_will_be(dist: Path) -> None:
    with tarfile.open(dist / CHART) as archive:
        inside = {name.removeprefix("finetune-operator/"): name for name in archive.getnames()}

        def read(name: str) -> Raw:
            file = archive.extractfile(inside[name])
            assert file
            return dict(yaml.safe_load(file))

        chart, values = read("Chart.yaml"), read("values.yaml")
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)
    assert values["image"]["repository"] == f"{REGISTRY}/operator"
    assert {"values.schema.json", "templates/crd-finetunejobs.yaml"} <= set(inside)


def test_what_kubectl_applies_has_both_kinds_and_the_same_images(dist: Path) -> None:
    kinds = {each["spec"]["names"]["kind"] for each in documents(dist / "crds.yaml")}
    whole = documents(dist / "finetune-operator.yaml")
    assert kinds == set(KINDS)
    assert kinds <= {each["spec"]["names"]["kind"] for each in whole if each["kind"] == "CustomResourceDefinition"}
    named = set(re.findall(rf"{re.escape(REGISTRY)}/[\w-]+:[\w.-]+", (dist / "finetune-operator.yaml").read_text()))
    assert named == IMAGES
    assert "finetune.dev/operator:" not in (dist / "finetune-operator.yaml").read_text()


@pytest.mark.parametrize("image", BILLS)
def test_a_bill_of_materials_is_of_its_image_and_this_version(dist: Path, image: str) -> None:
    bill = json.loads((dist / f"{image}-{VERSION}.cdx.json").read_text())
    subject = bill["metadata"]["component"]
    assert (bill["bomFormat"], subject["name"], subject["version"]) == ("CycloneDX", image, VERSION)
    assert len(bill["components"]) > 20
