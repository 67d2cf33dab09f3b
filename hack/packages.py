"""packages.py DIST | --images REGISTRY VERSION: whether what was built for a release has what it should, and no more.

`release.sh` calls it: with the directory of wheel and source distribution, and with the rendered chart on its input.
"""

import re
import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGES = {"finetune_operator", "finetune_trainer", "finetune_cli", "finetune_server"}
PLACES = {"operator", "trainer", "cli", "server"}
# Beside the packages in the source distribution; hatchling adds .gitignore, by which it chose.
FILES = {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "PKG-INFO", ".gitignore"}
IMAGES = {"operator", "trainer", "vllm-cpu"}


def in_wheel(names: list[str]) -> list[str]:
    """What a wheel has and should not have, or lacks."""
    found = {name.partition("/")[0] for name in names}
    found -= {name for name in found if name.endswith(".dist-info")}
    return _compared("The wheel", found, PACKAGES) + _compiled(names)


def in_source(names: list[str]) -> list[str]:
    """The same of a source distribution, whose files lie below its name and version."""
    inside = [name.partition("/")[2] for name in names]
    found = {name.partition("/")[0] for name in inside if name}
    return _compared("The source distribution", found, PLACES | FILES) + _compiled(inside)


def in_chart(rendered: str, registry: str, version: str) -> list[str]:
    """What of our images a rendered chart does not name as they will be published."""
    expected = {f"{registry}/{image}:{version}" for image in IMAGES}
    found = set(re.findall(r"[\w./:-]+/(?:operator|trainer|vllm-cpu):[\w.-]+", rendered))
    return _compared("The chart", found, expected)


def _compared(what: str, found: set[str], expected: set[str]) -> list[str]:
    more, less = sorted(found - expected), sorted(expected - found)
    return [f"{what} has {name}, which should not be there." for name in more] + [f"{what} lacks {n}." for n in less]


def _compiled(names: list[str]) -> list[str]:
    return [f"{name} was compiled here." for name in names if name.endswith(".pyc")]


def main(arguments: list[str]) -> None:
    """End with a sentence for each fault."""
    if arguments[0] == "--images":
        faults = in_chart(sys.stdin.read(), *arguments[1:])
    else:
        (wheel,), (source,) = (list(Path(arguments[0]).glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
        with tarfile.open(source) as archive:
            faults = in_wheel(zipfile.ZipFile(wheel).namelist()) + in_source(archive.getnames())
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main(sys.argv[1:])
