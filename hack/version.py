"""version.py [--check [TAG] | VERSION]: the version of everything here, whose one source is pyproject.toml.

`make version VERSION=0.2.0` writes it there and to the places that can't read it there; without VERSION it prints it.
`--check` ends with a sentence for each place that says another one. With a TAG, as the release workflow has it, the tag
must be v and the version, and CHANGELOG.md must have its section. tests/unit/test_release.py calls `faults`.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Python's packages and Helm's charts write other versions each in a way of its own.
VERSION = re.compile(r"\d+\.\d+\.\d+")
SOURCE = ("pyproject.toml", r'(?m)^(version = ")([^"]+)(")')
# Where it is repeated: a file, and a pattern whose middle group is the version.
PLACES = (
    ("charts/finetune-operator/Chart.yaml", r"(?m)^(version: )(\S+)()$"),
    ("charts/finetune-operator/Chart.yaml", r"(?m)^(appVersion: )(\S+)()$"),
    ("README.md", r"(REGISTRY/[a-z-]+:)(\d[\w.-]*)()"),
    ("deploy/operator/objects.yaml", r"(finetune\.dev/[a-z-]+:)(\d[\w.-]*)()"),
    ("deploy/operator/objects.yaml", r"(app\.kubernetes\.io/version: )(\S+)()"),
    ("docs/gitops.md", r"(targetRevision: )(\d\S*)()"),
    ("docs/gitops.md", r"(finetune/trainer:)(\d[\w.-]*)()"),
    ("docs/settings.md", r"(`finetune\.dev/[a-z-]+:)(\d[\w.-]*)(`)"),
)


def current() -> str:
    """pyproject.toml's."""
    return str(tomllib.loads((ROOT / SOURCE[0]).read_text())["project"]["version"])


def faults(tag: str = "") -> list[str]:
    """A sentence for each place that says another version, and for a tag that is not this one's."""
    version, found = current(), []
    for path, pattern in PLACES:
        said = {match[1] for match in re.findall(pattern, (ROOT / path).read_text())}
        if said != {version}:
            told = f"says {', '.join(sorted(said))}" if said else f"names none at {pattern}"
            found.append(f"{path} {told}, and pyproject.toml {version}: run `make version VERSION={version}`.")
    if tag and tag != f"v{version}":
        found.append(f"The tag is {tag}, and pyproject.toml says {version}: tag v{version}, or change the version.")
    if tag and f"\n## {version}" not in (ROOT / "CHANGELOG.md").read_text():
        found.append(f"CHANGELOG.md has no section {version}: give what is unreleased that name.")
    return found


def write(version: str) -> None:
    """Write it everywhere. ValueError where it is none."""
    if not VERSION.fullmatch(version):
        raise ValueError(f"{version} is no version such as 0.2.0.")
    for path, pattern in (SOURCE, *PLACES):
        file = ROOT / path
        file.write_text(re.sub(pattern, rf"\g<1>{version}\g<3>", file.read_text()))


def main(arguments: list[str]) -> int:
    """Do what the arguments say, and return the exit code."""
    match arguments:
        case []:
            print(current())
        case ["--check", *tag]:
            found = faults(*tag)
            print("\n".join(found) or f"Everything says {current()}.")
            return len(found) > 0
        case [version]:
            write(version)
        case _:
            print(__doc__)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
