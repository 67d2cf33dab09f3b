"""Where the tests find the repository's files."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
FINETUNEJOBS = sorted(path for path in EXAMPLES.rglob("*.yaml") if "\nkind: FineTuneJob\n" in path.read_text())
