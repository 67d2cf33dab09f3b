"""The templates. Whatever a user or a model wrote is escaped by all of them."""

from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

ROOT = "/ui"


@dataclass(frozen=True)
class Around:
    """What every page has around it: whose jobs they are, what may be done, and the word that actions bring back."""

    place: str
    writes: bool
    asks: bool
    csrf: str


def coded(sentence: str) -> Markup:
    """A sentence in which `what is typed` is code. All of it is escaped."""
    parts = (escape(part) for part in sentence.split("`"))
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


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
_ENVIRONMENT.filters["coded"] = coded
