"""The templates. Whatever a user or a model wrote is escaped by all of them."""

from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

ROOT = "/ui"


@dataclass(frozen=True)
class Around:
    """What every page has around it: whose jobs they are, what may be done, and the word that actions bring back."""

    place: str
    writes: bool
    asks: bool
    csrf: str


def html(template: str, **values: Any) -> str:
    """A template with its values."""
    return _ENVIRONMENT.get_template(f"{template}.html.jinja").render(root=ROOT, **values)


_ENVIRONMENT = Environment(
    loader=PackageLoader("finetune_server.ui", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
