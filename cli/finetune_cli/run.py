"""`finetune run`: checks what can be checked before hours are spent, runs the job, and says how to ask the result."""

import json
import signal
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from finetune_operator.api.status import Endpoint
from finetune_operator.finetunejob.stages import HOST
from finetune_trainer.contract.asked import rates
from rich.console import Console

from finetune_cli.engine import runs_on_cpu
from finetune_cli.errors import ExitCode, UserError
from finetune_cli.job import LocalJob, localize, read
from finetune_cli.local import Backend
from finetune_cli.processes import Stop
from finetune_cli.progress import View, view
from finetune_cli.store import Store

# The trainer itself is part of this distribution; what it stands on is an extra.
TRAINER_LIBRARY = "trl"


def run_manifest(path: Path, port: int, serve: bool, console: Console) -> None:
    """Run the FineTuneJob of a file. Exits with 130 when stopped before it serves."""
    job = _load(path, serve)
    cpu = HOST.wanted(job.spec) and runs_on_cpu()
    _require_trainer()
    _hear_every_stop()
    store = Store(job.name)
    shown = view(console)
    with store.lock():
        for note in job.notes:
            shown.say(note)
        backend = Backend(job, store, shown, cpu, port)
        try:
            _carry_out(backend, job, Result(shown, console))
        except KeyboardInterrupt:
            _stopped(backend, path, shown)
        finally:
            shown.close()


def _hear_every_stop() -> None:
    """Take a request to end, or a closed terminal, for Ctrl-C: the processes started here end with this one."""
    stop = Stop()
    signal.signal(signal.SIGTERM, stop)
    sys.unraisablehook = stop.dropped
    # Under nohup a closed terminal is to be ignored, and in the background of a script Ctrl-C.
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


def _load(path: Path, serve: bool) -> LocalJob:
    manifest = read(path)
    spec = manifest.spec
    if not serve:
        spec = spec.model_copy(update={"hosting": spec.hosting.model_copy(update={"enabled": False})})
    return localize(manifest.metadata.name, spec, path.parent)


def _require_trainer() -> None:
    if find_spec(TRAINER_LIBRARY) is None:
        raise UserError("Training needs the trainer's libraries: pip install 'finetune-operator[trainer]'.")


@dataclass(frozen=True)
class Result:
    """Tells the user what came out."""

    view: View
    console: Console

    def measured(self, page: Path) -> None:
        """The table, and where the report is."""
        # What evaluation needs is imported by nothing that does without.
        from finetune_cli.report import print_run

        self.view.close()
        print_run(page, self.console)

    def answering(self, endpoint: Endpoint) -> None:
        """The endpoint, and how to ask it."""
        self.view.close()
        self.view.say(how_to_ask(endpoint))

    def made(self, artifact: Path) -> None:
        """Where the result lies that is not served."""
        self.view.close()
        self.view.say(f"\nThe artifact is in {artifact}.")


def _carry_out(backend: Backend, job: LocalJob, result: Result) -> None:
    backend.carry_out(result)
    if not job.spec.hosting.enabled:
        result.made(backend.artifact)


def _stopped(backend: Backend, path: Path, shown: View) -> None:
    served = backend.serving
    backend.stopped()
    shown.close()
    again = "serves it again" if served else "goes on from here"
    shown.say(f"Stopped. `finetune run {path}` {again}.")
    if not served:
        sys.exit(ExitCode.INTERRUPTED)


def how_to_ask(endpoint: Endpoint) -> str:
    """The endpoint, and ways to ask it."""
    if rates(endpoint.url):
        return _how_to_rate(endpoint)
    body = json.dumps({"model": endpoint.model, "messages": [{"role": "user", "content": "Hello"}]})
    return f"""
{endpoint.model} answers at {endpoint.url}, OpenAI-compatible, until Ctrl-C. In another terminal, here:

  finetune chat {endpoint.model}
  finetune chat {endpoint.model} --base        # the base model, to compare
  curl {endpoint.url}/chat/completions -H 'Content-Type: application/json' -d '{body}'
"""


def _how_to_rate(endpoint: Endpoint) -> str:
    chat = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!"}]
    body = json.dumps({"model": endpoint.model, "messages": chat, "use_activation": False})
    return f"""
{endpoint.model} rates answers at {endpoint.url}, until Ctrl-C: data[0].probs[0] of what it says is the reward of the
last message. In another terminal:

  curl {endpoint.url} -H 'Content-Type: application/json' -d '{body}'
"""
