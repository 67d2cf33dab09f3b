"""What the pictures of the web page in docs/ were made from: `test_page` notes it there, `test_docs` compares."""

from hashlib import sha256
from pathlib import Path

from paths import ROOT

_PAGE = ROOT / "server/finetune_server/ui"
_SHOWN = ("templates/base.html.jinja", "templates/job*.jinja", "templates/regions/*", "static/page.*")


def made_from() -> str:
    """A digest of the templates, styles and script that the pictures show."""
    files = sorted(path for pattern in _SHOWN for path in _PAGE.glob(pattern))
    return sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest() + "\n"


def note(directory: Path) -> Path:
    """Where that stands beside the pictures."""
    return directory / "web-page.sha256"
