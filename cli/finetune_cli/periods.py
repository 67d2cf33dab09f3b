"""How long somebody is ready to wait, as manifests write it."""

from finetune_operator.api.values import Duration, seconds
from pydantic import TypeAdapter, ValidationError

from finetune_cli.errors import ExitCode, UserError


def period(text: str | None, what: str = "--timeout") -> float | None:
    """A time that was given, in seconds; UserError for what is none."""
    if text is None:
        return None
    try:
        return float(seconds(TypeAdapter(Duration).validate_python(text)))
    except ValidationError as error:
        raise UserError(f"{what} {text}: write it as 30s, 90m or 6h.", ExitCode.USAGE) from error
