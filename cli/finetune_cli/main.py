"""The `finetune` command: reads the arguments, hands over, and prints what went wrong as one sentence.

finetune check job.yaml     what is in the data, before anything is trained
finetune run job.yaml       train and serve on this machine
finetune status [NAME]      what a run came to
finetune chat [NAME]        ask the model that is being served
finetune report [NAME]      whether it was worth it
finetune report A B         two runs or revisions side by side
finetune render job.yaml    the objects that the operator would create in a cluster
"""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from finetune_cli.errors import UserError
from finetune_cli.render import render_manifest
from finetune_cli.run import run_manifest
from finetune_cli.show import show_status

out = Console()
err = Console(stderr=True)
app = typer.Typer(
    help="Fine-tune a language model from one manifest: train and serve it on this machine, or print what a cluster "
    "would be given.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ManifestFile = Annotated[Path, typer.Argument(help="A file with one FineTuneJob.", show_default=False)]
JobName = Annotated[
    str | None, typer.Argument(help="The job's name; not needed when there is only one.", show_default=False)
]


class Output(StrEnum):
    """How `status` prints."""

    TABLE = "table"
    JSON = "json"


@app.command()
def run(
    manifest: ManifestFile,
    port: Annotated[int, typer.Option(help="Where to serve; another free port if this one is taken.")] = 8000,
    serve: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Whether to serve the result once it is trained.")
    ] = True,
) -> None:
    """Prepare, train and serve a FineTuneJob on this machine.

    Stop with Ctrl-C; running again goes on from the last checkpoint, and ends at once where everything is done.
    Artifacts, logs and the status document are in .finetune/NAME.
    """
    run_manifest(manifest, port, serve, out)


@app.command()
def check(
    manifest: ManifestFile,
    as_json: Annotated[bool, typer.Option("--json", help="Print what prepare found as JSON.")] = False,
) -> None:
    """Check a FineTuneJob's data on this machine, as a cluster would before it holds an accelerator.

    Shows rows, lengths, what is wrong or odd and where, some rows as the model sees them, and the plan. What is
    prepared stays in .finetune/NAME, and `finetune run` goes on from there.
    """
    from finetune_cli.check import check_manifest

    check_manifest(manifest, as_json, out, err)


@app.command()
def status(
    name: JobName = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="json is the whole status document.")] = Output.TABLE,
) -> None:
    """Show what a run on this machine has come to."""
    show_status(name, output == Output.JSON, out)


@app.command()
def report(
    first: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="NAME or NAME/REVISION; not needed where there is one job.", show_default=False
        ),
    ] = None,
    second: Annotated[
        str | None,
        typer.Argument(metavar="[OTHER]", help="Another one: both side by side.", show_default=False),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="Fetch it from a cluster, by kubectl.", show_default=False),
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="Fetch it from the cluster of this kubectl context.", show_default=False)
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", "-o", help="Where to write the page, or the pairs.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
    failures: Annotated[
        bool,
        typer.Option(
            "--failures", help="Print wrong answers as preference pairs (JSON Lines), the dataset of a DPO job."
        ),
    ] = False,
    accelerator_hour: Annotated[
        float | None, typer.Option(min=0, help="What an hour of one accelerator costs.", show_default=False)
    ] = None,
    million_prompt_tokens: Annotated[
        float | None, typer.Option(min=0, help="What a million prompt tokens cost.", show_default=False)
    ] = None,
    million_completion_tokens: Annotated[
        float | None, typer.Option(min=0, help="What a million tokens of answers cost.", show_default=False)
    ] = None,
    million_cached_tokens: Annotated[
        float | None,
        typer.Option(min=0, help="What a million prompt tokens from the prefix cache cost.", show_default=False),
    ] = None,
    currency: Annotated[str | None, typer.Option(help="The prices' currency.", show_default=False)] = None,
) -> None:
    """Tell whether it was worth it: the tuned model against the base model, its costs, and what got worse.

    Of a run in this directory, else of a FineTuneJob in the cluster that kubectl points at.
    """
    from finetune_cli.cluster import Cluster
    from finetune_cli.compare import compare
    from finetune_cli.report import given_prices, report_on, write_failures

    cluster = Cluster(namespace, context) if namespace or context else None
    if failures:
        return write_failures(first, cluster, save, out, err)
    if first and second:
        return compare(first, second, cluster, as_json, out)
    tokens = (million_prompt_tokens, million_completion_tokens, million_cached_tokens)
    prices = given_prices(currency, accelerator_hour, *tokens)
    return report_on(first, cluster, prices, save, as_json, out)


@app.command()
def chat(
    name: JobName = None,
    message: Annotated[
        str | None,
        typer.Option("--message", "-m", help="Ask this and end; left out, a conversation.", show_default=False),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(
            help="The system message; left out, the one that all rows of the training data have.", show_default=False
        ),
    ] = None,
    base: Annotated[bool, typer.Option("--base", help="Ask the base model instead, to compare.")] = False,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0 always takes the likeliest word.")] = 0.0,
) -> None:
    """Ask the model that `finetune run` is serving."""
    # The openai client takes a second to import, and no other command needs it.
    from finetune_cli.chat import chat_with

    chat_with(name, message, system, base, temperature, out)


@app.command()
def render(
    manifest: ManifestFile,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Left out: the manifest's, or default.", show_default=False)
    ] = None,
) -> None:
    """Print the objects that the operator would create for a new FineTuneJob, as YAML."""
    sys.stdout.write(render_manifest(manifest, namespace))


def main() -> None:
    """Entry point. What the user can mend is a sentence on standard error; a traceback is our fault."""
    try:
        app()
    except UserError as error:
        err.print("[bold red]error:[/] ", end="")
        err.print(error.message, markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.code)
