"""The locked versions (constraints/): complete, the same in tests and images, and used by whatever installs."""

import re
from importlib.metadata import version
from itertools import chain

import pytest
from extras import EXTRAS, needed
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from paths import ROOT

ENGINE = [
    line
    for path in ("hack/venv-requirements.txt", "hack/venv-overrides.txt")
    for line in (ROOT / path).read_text().splitlines()
    if not line.startswith(("#", "-e"))
]
CHOSEN = ("lm-eval", "qlora", "sign", "gguf", "mlflow", "tensorboard", "wandb")
INSTALLED = {
    "operator": [*EXTRAS["operator"], *EXTRAS["server"]],
    "trainer": [*chain(*(EXTRAS[extra] for extra in ("trainer", "gs", "abfs", *CHOSEN)))],
    "vllm-cpu": ENGINE,
    "venv": [*chain(*EXTRAS.values()), *ENGINE],
}
DOCKERFILES = {"operator": "operator/Dockerfile", "trainer": "trainer/Dockerfile", "vllm-cpu": "hosting/Dockerfile"}
# The base image of the trainer has it, for the accelerators that it is made for.
BASE = {"trainer": {"torch"}}
# Newer than what vLLM allows beside it: with Debian's torch, that one can't be imported. Stories of e2e train with it.
APART = {"trainer": {"transformers"}}


def locked(name: str) -> list[str]:
    return (ROOT / f"constraints/{name}.txt").read_text().splitlines()


def versions(name: str) -> dict[str, str]:
    """The version of each library that there is one of on this machine."""
    found = [Requirement(line) for line in locked(name)]
    here = [each for each in found if each.marker is None or each.marker.evaluate()]
    return {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in here}


@pytest.mark.parametrize("name", INSTALLED)
def test_every_library_that_is_installed_has_one_version(name: str) -> None:
    found = versions(name)
    without = BASE.get(name, set())
    asked = [each for each in needed(INSTALLED[name], without) if canonicalize_name(each.name) not in found]
    # What one library asks for by its exact version is locked with it.
    missing = {each.name for each in asked if not str(each.specifier).startswith("==")}
    assert not missing, f"`make constraints` locks {', '.join(sorted(missing))}"
    assert not without & set(found)


@pytest.mark.parametrize("name", INSTALLED)
def test_what_the_project_asks_for_is_what_is_locked(name: str) -> None:
    found = versions(name)
    for asked in map(Requirement, INSTALLED[name]):
        assert asked.specifier.contains(found[canonicalize_name(asked.name)]), f"{asked}: run `make constraints`"


@pytest.mark.parametrize("name", INSTALLED)
def test_a_lock_is_names_and_versions_alone(name: str) -> None:
    for line in locked(name):
        assert re.fullmatch(r"[\w.-]+==[\w.!+]+( ; [\w\s.'=<>!()]+)?", line), line


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_images_have_what_the_tests_run(name: str) -> None:
    here, apart = versions("venv"), APART.get(name, set())
    there = {library: found for library, found in versions(name).items() if library not in apart}
    assert {library: here[library] for library in there} == there
    assert {library: version(library) for library in there} == there, "run `make venv`"


@pytest.mark.parametrize(("name", "path"), DOCKERFILES.items())
def test_an_image_is_built_from_its_lock(name: str, path: str) -> None:
    text = (ROOT / path).read_text().replace("\\\n", "")
    assert re.search(rf"^COPY .*\bconstraints/{name}\.txt ", text, re.MULTILINE)
    installs = [line.strip() for line in re.findall(r"pip install ([^&\n]*)", text)]
    # uv only installs the others, and what is built here has its libraries by then.
    with_libraries = [line for line in installs if not line.endswith(" uv") and "--no-deps" not in line]
    assert len(with_libraries) == 1
    assert re.search(rf"--constraint \S*\b{name}\.txt ", with_libraries[0])
    assert "!constraints" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_developers_environment_is_made_from_its_lock() -> None:
    assert "--constraints constraints/venv.txt" in (ROOT / "hack/venv.sh").read_text()


def test_the_converter_is_one_source_archive_known_by_its_digest() -> None:
    assert re.fullmatch(r"llama-cpp-python==[\d.]+ \\\n +--hash=sha256:[0-9a-f]{64}", "\n".join(locked("converter")))
    script = (ROOT / "hack/converter.sh").read_text()
    assert '--require-hashes --requirement "$here/constraints/converter.txt"' in script
    assert "hack/converter.sh" in (ROOT / "hack/venv.sh").read_text()
    text = (ROOT / DOCKERFILES["trainer"]).read_text()
    assert "COPY constraints/converter.txt constraints/" in text
    assert "hack/converter.sh /opt/finetune/bin/python" in text
    assert "!hack/converter.sh" in (ROOT / ".dockerignore").read_text().splitlines()
