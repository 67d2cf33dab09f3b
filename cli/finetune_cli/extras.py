"""What the command line can do only with more than its own libraries, said in a sentence. Used by `main` and `api`."""

from collections.abc import Iterator
from contextlib import contextmanager

from finetune_cli.errors import UserError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import what an extra of this distribution brings; UserError that names the extra where a library is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"This needs {error.name}, which is not installed here: pip install 'finetune-operator[cli,{name}]'."
        ) from error
