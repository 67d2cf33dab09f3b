"""A release: one version everywhere, a workflow that pins what it uses, and what may be in what it publishes."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from finetune_operator.settings import Settings
from paths import ROOT

WORKFLOW = ROOT / ".github/workflows/release.yml"
JOBS: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())["jobs"]
STEPS = [step for job in JOBS.values() for step in job["steps"]]


def hack(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "hack" / name))


def test_everything_says_one_version() -> None:
    version = hack("version.py")
    assert version["faults"]() == []
    current = version["current"]()
    assert Settings().trainer_image == f"finetune.dev/trainer:{current}", "run `make venv`"


def test_a_tag_is_the_versions_and_the_changelog_has_its_section() -> None:
    wrong, unwritten = hack("version.py")["faults"]("v99.0.0")
    assert wrong.startswith("The tag is v99.0.0, and pyproject.toml says ")
    assert unwritten.startswith("CHANGELOG.md has no section ")


def test_another_version_is_written_everywhere_and_found_where_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = hack("version.py")
    paths = {path for path, _ in (version["SOURCE"], *version["PLACES"])}
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text((ROOT / path).read_text())
    monkeypatch.setitem(version["write"].__globals__, "ROOT", tmp_path)
    version["write"]("7.8.9")
    assert version["faults"]() == []
    assert version["current"]() == "7.8.9"
    chart = tmp_path / "charts/finetune-operator/Chart.yaml"
    chart.write_text(chart.read_text().replace("appVersion: 7.8.9", "appVersion: 7.8.8"))
    assert version["faults"]() == [
        "charts/finetune-operator/Chart.yaml says 7.8.8, and pyproject.toml 7.8.9: run `make version VERSION=7.8.9`."
    ]
    with pytest.raises(ValueError, match=r"^v7 is no version such as 0\.2\.0\.$"):
        version["write"]("v7")


def test_what_does_not_belong_into_a_package_or_a_chart_is_named() -> None:
    packages = hack("packages.py")
    wheel = [f"{name}/__init__.py" for name in packages["PACKAGES"]] + ["finetune_operator-1.dist-info/RECORD"]
    assert packages["in_wheel"](wheel) == []
    assert packages["in_wheel"]([*wheel, "tests/x.py"]) == ["The wheel has tests, which should not be there."]
    assert packages["in_wheel"]([*wheel, "finetune_cli/a.pyc"]) == ["finetune_cli/a.pyc was compiled here."]
    source = [f"finetune-1/{name}" for name in packages["PLACES"] | packages["FILES"]]
    assert packages["in_source"](source) == []
    assert packages["in_source"](source[1:]) == [f"The source distribution lacks {source[0].partition('/')[2]}."]
    image = "image: registry.example.com/finetune/{}:1.2.3\n"
    chart = "".join(image.format(name) for name in packages["IMAGES"])
    assert packages["in_chart"](chart, "registry.example.com/finetune", "1.2.3") == []
    (more, *_) = packages["in_chart"](chart.replace("1.2.3", "1.2.2", 1), "registry.example.com/finetune", "1.2.3")
    assert more.startswith("The chart has registry.example.com/finetune/")


@pytest.mark.parametrize("image", ["operator", "trainer", "vllm-cpu"])
def test_the_bill_of_materials_has_what_is_locked(image: str) -> None:
    sbom = hack("sbom.py")
    bill = sbom["bill"](image, "1.2.3")
    locked = (ROOT / f"constraints/{image}.txt").read_text().splitlines()
    assert {f"{each.name}=={each.version}" for each in bill.components} == {line.partition(" ;")[0] for line in locked}
    text = sbom["make_outputter"](bill, sbom["OutputFormat"].JSON, SchemaVersion.V1_6).output_as_string()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_every_action_is_pinned_to_a_commit_and_says_its_version() -> None:
    used = re.findall(r"uses: (.*)", WORKFLOW.read_text())
    assert len(used) == len([step for step in STEPS if "uses" in step])
    for action in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_each_job_has_the_rights_that_it_needs_and_the_workflow_none() -> None:
    assert yaml.safe_load(WORKFLOW.read_text())["permissions"] == {}
    rights = {name: job["permissions"] for name, job in JOBS.items()}
    assert rights["build"] == {"contents": "read"}
    # Signing and publishing by identity: no password is kept.
    assert {name for name, given in rights.items() if given.get("id-token")} == {"images", "publish"}
    assert set(re.findall(r"secrets\.(\w+)", WORKFLOW.read_text())) == {"GITHUB_TOKEN", "REGISTRY_TOKEN"}


def test_what_is_no_push_is_a_script_that_runs_here() -> None:
    """So that a release is rehearsed by `make release-dry-run`; the workflow alone pushes and signs."""
    outside = (
        "helm push",
        "uv publish",
        "cosign sign",
        "docker login",
        "docker buildx build --push",
        "gh release create",
    )
    lines = [line.strip() for step in STEPS for line in step.get("run", "").splitlines()]
    assert lines
    for line in lines:
        assert line.startswith("make ") or any(command in line for command in outside), line


def test_every_image_is_built_from_its_own_file_for_both_architectures_where_its_base_has_both() -> None:
    built = {each["name"]: each for each in JOBS["images"]["strategy"]["matrix"]["include"]}
    assert set(built) == hack("packages.py")["IMAGES"]
    for each in built.values():
        base = re.search(r"^ARG BASE_IMAGE=(.*)", (ROOT / each["file"]).read_text(), re.MULTILINE)
        assert base
        both = base[1].startswith("python:")
        assert each["platforms"].split(",") == ["linux/amd64", "linux/arm64"][: 1 + both]
