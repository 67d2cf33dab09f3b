"""`finetune serve`: OpenAI's fine-tuning API over the runs of this directory, by the routes of `finetune_server.app`.

It listens on this machine alone. `ground` is what the routes stand on here.
"""

import re
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

# Starlette imports it with the first upload.
import python_multipart  # noqa: F401
import uvicorn
from finetune_server import app
from finetune_server.files import Files, in_directory
from finetune_server.ground import Ground
from finetune_server.settings import Raw, Settings, checked, table
from rich.console import Console
from starlette.applications import Starlette

from finetune_cli.background import Background
from finetune_cli.errors import ExitCode, UserError
from finetune_cli.ground import UNREAD, LaptopCallers, LaptopJobs, NoEngines
from finetune_cli.job import FILE
from finetune_cli.objects import Objects
from finetune_cli.processes import LOOPBACK
from finetune_cli.store import ROOT, hide

# Which no FineTuneJob can be called.
_FILES = ".files"
# A model's name on the Hugging Face Hub, and not a path.
_HUB = re.compile(r"\w[-.\w]*/\w[-.\w]*")
_DEFAULT = "hf://HuggingFaceTB/SmolLM2-135M-Instruct"


def serve(port: int, file: Path | None, models: Sequence[str], key: str, console: Console) -> None:
    """Answer until Ctrl-C. UserError where the table of base models can't be, or the port is taken."""
    settings = Settings(models=base_models(file, models))
    _check_port(port)
    said = "with the key that you gave" if key else "with any key; --key asks for one"
    for line in (
        f"export OPENAI_BASE_URL=http://{LOOPBACK}:{port}/v1 OPENAI_API_KEY={'...' if key else 'none'}",
        f"OpenAI's API over the runs in this directory, {said}. Ctrl-C ends it, and no run.",
        f"What can be fine-tuned: {', '.join(settings.models)}",
    ):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    server = application(Background(Path.cwd()), settings, key)
    uvicorn.run(server, host=LOOPBACK, port=port, log_level="warning", timeout_graceful_shutdown=1)


def application(runs: Background, settings: Settings, key: str = "") -> Starlette:
    """The API over the runs of a directory, for whoever has the key, or for everybody here without one."""
    root = runs.directory / ROOT

    @asynccontextmanager
    async def ground() -> AsyncIterator[Ground]:
        hide(root)
        jobs = LaptopJobs(runs, Objects(runs, UNREAD), settings.wait_seconds)
        yield Ground(jobs, NoEngines(), Files(in_directory(root / _FILES)), LaptopCallers(key), jobs)

    return app.application(settings, ground)


def base_models(file: Path | None, models: Sequence[str]) -> Mapping[str, Raw]:
    """What may be fine-tuned: a file in the form of the chart's api.models, and NAME=SOURCE each. UserError."""
    try:
        found = table(file) if file else {}
        return found | checked(dict(_base_model(each) for each in (models or ([] if file else [_DEFAULT]))))
    except ValueError as error:
        raise UserError(f"{str(error)[:1].upper()}{str(error)[1:]}.", ExitCode.USAGE) from error


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except PermissionError as error:
            raise UserError(f"Port {port} is root's alone: name one above 1023 with --port.", ExitCode.USAGE) from error
        except OSError as error:
            sentence = f"Port {port} is taken: name another with --port, or end what listens there."
            raise UserError(sentence, ExitCode.USAGE) from error


def _base_model(text: str) -> tuple[str, Raw]:
    """NAME=SOURCE, or SOURCE by its own name; a path is a directory of this machine. UserError."""
    name, named, source = text.partition("=")
    if not named:
        source, name = text, text.partition("://")[2] or Path(text).name
    if "://" not in source:
        if not Path(source).is_dir():
            meant = (
                f"did you mean hf://{source}?" if _HUB.fullmatch(source) else "write NAME=hf://ORG/NAME or NAME=PATH."
            )
            raise UserError(f"--model {text}: there is no directory {source} here; {meant}", ExitCode.USAGE)
        source = f"{FILE}{Path(source).resolve()}"
    return name, {"model": {"source": source}}
