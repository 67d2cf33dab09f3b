"""sbom.py IMAGE VERSION: the CycloneDX bill of materials of an image's Python libraries, from its lock in constraints/.

`release.sh` calls it. What else is in an image (its base) the workflow's buildx attests.
"""

import sys
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def bill(image: str, version: str) -> Bom:
    """Every library that the image may have on some machine, with its one version."""
    subject = Component(name=image, version=version, type=ComponentType.CONTAINER, bom_ref=image)
    found = Bom(components=map(_component, (ROOT / f"constraints/{image}.txt").read_text().splitlines()))
    found.metadata.component = subject
    found.register_dependency(subject, found.components)
    return found


def _component(line: str) -> Component:
    asked = Requirement(line)
    version = str(asked.specifier).removeprefix("==")
    address = PackageURL("pypi", name=asked.name, version=version)
    return Component(name=asked.name, version=version, type=ComponentType.LIBRARY, purl=address, bom_ref=str(address))


if __name__ == "__main__":
    written = make_outputter(bill(*sys.argv[1:]), OutputFormat.JSON, SchemaVersion.V1_6)
    print(written.output_as_string(indent=1))
