"""The verbs about jobs that there are, on this machine and in a cluster alike. `main` adds them to its own.

Each finds the job (`places`), asks its place, and prints.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from finetune_cli import places
from finetune_cli.advice import advice
from finetune_cli.cluster import Cluster
from finetune_cli.describe import described, listed
from finetune_cli.errors import ExitCode, UserError
from finetune_cli.follow import started
from finetune_cli.follow import wait as wait_for
from finetune_cli.job import read
from finetune_cli.jobs import Logged, Place, chosen
from finetune_cli.output import OutputFormat, dump
from finetune_cli.periods import period
from finetune_cli.show import table

PROGRAM, PLUGIN = "finetune", "kubectl finetune"
app = typer.Typer()
out = Console()
# What reads a pipe has no edge to break lines at.
WIDE = 200
if not out.is_terminal:
    out.width = max(out.width, WIDE)


def proposed(context: typer.Context, incomplete: str) -> list[str]:
    """The names that a shell could complete."""
    try:
        found = places.everything(cluster(context, context.params.get("namespace"), context.params.get("context")))
    except UserError:
        return []
    return [job.name for job in found if job.name.startswith(incomplete)]


JobName = Annotated[
    str | None,
    typer.Argument(
        help="The job's name; not needed when there is only one.", show_default=False, autocompletion=proposed
    ),
]
Named = Annotated[str, typer.Argument(help="The job's name.", show_default=False, autocompletion=proposed)]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Of a cluster, by kubectl.", show_default=False)
]
KubeContext = Annotated[str | None, typer.Option("--context", help="Of this kubectl context.", show_default=False)]
Printed = Annotated[OutputFormat, typer.Option("--output", "-o", help="The whole of it for programs: json or yaml.")]
Timeout = Annotated[
    str | None, typer.Option(help="How long, such as 90m or 6h; left out, as long as it takes.", show_default=False)
]


def cluster(program: typer.Context, namespace: str | None, context: str | None) -> Cluster | None:
    """The cluster that is meant; None where it may be this machine, which `kubectl finetune` never means."""
    plugin = program.find_root().info_name == PLUGIN
    return Cluster(namespace, context) if plugin or namespace or context else None


@app.command("list")
def list_(
    program: typer.Context,
    namespace: Namespace = None,
    context: KubeContext = None,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all of a cluster's.")] = False,
    output: Printed = OutputFormat.TABLE,
) -> None:
    """List the jobs of this directory, or of a namespace."""
    where = Cluster(None, context, everywhere) if everywhere else cluster(program, namespace, context)
    found = places.everything(where)
    if output == OutputFormat.TABLE:
        out.print(listed(found, datetime.now(UTC)))
    else:
        dump({"apiVersion": "v1", "kind": "List", "items": [job.document for job in found]}, output, out)


@app.command()
def describe(
    program: typer.Context,
    name: JobName = None,
    namespace: Namespace = None,
    context: KubeContext = None,
    output: Printed = OutputFormat.TABLE,
) -> None:
    """Tell where a job is, why, and what comes next."""
    _, job = places.find(name, cluster(program, namespace, context))
    if output == OutputFormat.TABLE:
        out.print(described(job, datetime.now(UTC)))
    else:
        dump(job.document, output, out)


@app.command()
def status(
    program: typer.Context,
    name: JobName = None,
    namespace: Namespace = None,
    context: KubeContext = None,
    output: Annotated[
        OutputFormat, typer.Option("--output", "-o", help="json or yaml: the status document.")
    ] = OutputFormat.TABLE,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Until it is at its end.")] = False,
) -> None:
    """Show what a job has come to."""
    place, job = places.find(name, cluster(program, namespace, context))
    if watch:
        job, _ = wait_for(place, job.name, None, out if output == OutputFormat.TABLE else None)
    if output != OutputFormat.TABLE:
        dump(job.document.get("status", {}), output, out)
    elif not (watch and out.is_terminal):
        out.print(table(job))


@app.command()
def wait(
    program: typer.Context,
    name: JobName = None,
    namespace: Namespace = None,
    context: KubeContext = None,
    timeout: Timeout = None,
) -> None:
    """Wait until a job is Ready, or has failed; the exit code tells which (docs/exit-codes.md)."""
    place, job = places.find(name, cluster(program, namespace, context))
    _finish(place, job.name, period(timeout))


@app.command()
def apply(
    file: Annotated[Path, typer.Option("--filename", "-f", help="A file with one FineTuneJob.", show_default=False)],
    namespace: Namespace = None,
    context: KubeContext = None,
    timeout: Timeout = None,
    waits: Annotated[bool, typer.Option("--wait/--no-wait", help="Whether to wait until it is at its end.")] = True,
) -> None:
    """Apply a FineTuneJob to a cluster, and tell how far it is until it is Ready or has failed.

    The exit code tells which (docs/exit-codes.md). Ctrl-C ends the waiting, and not the work.
    """
    limit = period(timeout)
    manifest = read(file)
    there = Cluster(namespace or manifest.metadata.namespace, context)
    job = there.apply(file.read_text("utf-8"))
    _say(f"{job.namespace}/{job.name} is applied.")
    if waits:
        _finish(there, job.name, limit)
    else:
        _say(f"`finetune wait {job.name}` waits for it.")


def _finish(place: Place, name: str, limit: float | None) -> None:
    """Wait for a job, and say what became of it."""
    try:
        job, found = wait_for(place, name, limit, out)
    except KeyboardInterrupt as error:
        raise UserError(f"{name} goes on; `finetune wait {name}` waits for it again.", ExitCode.INTERRUPTED) from error
    if found.code != ExitCode.DONE:
        raise UserError(found.message, found.code)
    for sentence in (found.message, *advice(job)):
        _say(sentence)


@app.command()
def logs(
    program: typer.Context,
    name: JobName = None,
    stage: Annotated[
        Logged | None, typer.Option(help="Left out, the one that is under way.", show_default=False)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it writes more.")] = False,
    namespace: Namespace = None,
    context: KubeContext = None,
) -> None:
    """Print what a stage of a job's newest revision has written."""
    place, job = places.find(name, cluster(program, namespace, context))
    asked = stage.value if stage else job.current
    if follow:
        job = started(place, job, asked)
    for line in place.logs(job, asked, follow):
        out.out(line, end="", highlight=False)


@app.command()
def cancel(program: typer.Context, name: Named, namespace: Namespace = None, context: KubeContext = None) -> None:
    """Stop a job's work, which keeps a checkpoint. What serves in a cluster goes on serving."""
    place, job = places.find(name, cluster(program, namespace, context))
    place.suspend(job.name, True)
    _say(f"{job.name} stops and keeps a checkpoint; {job.resumes} goes on from there.")


@app.command()
def resume(program: typer.Context, name: Named, namespace: Namespace = None, context: KubeContext = None) -> None:
    """Let a job go on that was cancelled."""
    place, job = places.find(name, cluster(program, namespace, context))
    place.suspend(job.name, False)
    _say(f"{job.name} goes on; `finetune wait {job.name}` waits for it.")


@app.command()
def retry(program: typer.Context, name: Named, namespace: Namespace = None, context: KubeContext = None) -> None:
    """Try again what failed, once what was in the way is mended."""
    place, job = places.find(name, cluster(program, namespace, context))
    place.retry(job.name)
    _say(f"{job.name} is tried again; `finetune wait {job.name}` waits for it.")


@app.command()
def promote(
    program: typer.Context,
    name: Named,
    revision: Annotated[
        str | None,
        typer.Argument(help="A revision, or REVISION@STEP; left out, the newest revision.", show_default=False),
    ] = None,
    unpin: Annotated[bool, typer.Option("--unpin", help="Let what passes the gate serve again.")] = False,
    namespace: Namespace = None,
    context: KubeContext = None,
) -> None:
    """Have a revision serve, whatever the gate says, until --unpin."""
    place, job = places.find(name, cluster(program, namespace, context))
    if unpin:
        place.promote(job.name, None)
        _say(f"What passes the gate serves {job.name} again.")
        return
    address = chosen(job, revision)
    place.promote(job.name, address)
    _say(_pinned(job.name, address))


@app.command()
def rollback(program: typer.Context, name: Named, namespace: Namespace = None, context: KubeContext = None) -> None:
    """Have the revision serve that served before the one that serves, until `promote --unpin`."""
    place, job = places.find(name, cluster(program, namespace, context))
    _say(_pinned(job.name, place.rollback(job)))


@app.command()
def clean(
    program: typer.Context,
    name: Named,
    earlier: Annotated[
        bool, typer.Option("--earlier", help="Only what was made for revisions before the newest, of a run here.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    namespace: Namespace = None,
    context: KubeContext = None,
) -> None:
    """Remove a job and everything that was made for it, but what was published to output.destination."""
    place, job = places.find(name, cluster(program, namespace, context))
    served = f", and {job.status.endpoint.url} answers no more" if job.status.endpoint else ""
    whole = f"Remove {job.name} with its checkpoints, artifacts and reports{served}; what was published stays?"
    asked = f"Remove the revisions of {job.name} before {job.status.revision}?" if earlier else whole
    if not yes and not typer.confirm(asked):
        return _say("Nothing is removed.")
    if earlier:
        return _say(
            f"Removed of {job.name}: {', '.join(place.remove_earlier(job)) or 'nothing, there is one revision'}."
        )
    place.remove(job.name)
    return _say(f"{job.name} is removed.")


def _pinned(name: str, address: str) -> str:
    return (
        f"{address} of {name} serves as soon as its engine answers, and what is trained later does not take over until "
        f"`finetune promote {name} --unpin`."
    )


def _say(sentence: str) -> None:
    out.print(sentence, markup=False, highlight=False, soft_wrap=True)
