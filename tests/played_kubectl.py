"""A kubectl that says what a cluster with one FineTuneJob would, for the tests of the command line."""

import json
from pathlib import Path

from statuses import Raw, raw, serving


class Kubectl:
    """A kubectl that says what a cluster with one FineTuneJob would, and keeps what it was asked."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.has(raw(serving()))
        self.file("pods.json", "")
        self.file("record", "configmap/recipes-aaaa0001")
        program = directory / "kubectl"
        program.write_text(f"""#!/bin/sh
cd {directory}
echo "$@" >> asked
case "$*" in
  *missing*) echo 'Error from server (NotFound): finetunejobs "missing" not found' >&2; exit 1;;
  *--watch*) exec tail -n +1 -f watch.json;;
  *"get finetunejobs.finetune.dev -"*) cat jobs.json;;
  *"get finetunejobs"*|*apply*) cat ftj.json;;
  *"get configmap"*) cat record;;
  *"get pods"*) cat pods.json;;
  *logs*) cat log;;
  *port-forward*) exec tail -n +1 -f forward;;
esac
""")
        program.chmod(0o755)

    def file(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

    def has(self, *seen: Raw) -> None:
        """What is there, the last being what is there now."""
        self.file("ftj.json", json.dumps(seen[-1]))
        self.file("jobs.json", json.dumps({"items": [seen[-1]]}))
        self.file("watch.json", "".join(json.dumps(each, indent=4) + "\n" for each in seen))

    @property
    def asked(self) -> list[str]:
        return (self.directory / "asked").read_text().splitlines()
