"""The `finetune` command: reads the arguments, hands over, and prints what went wrong as one sentence.

finetune check job.yaml     what is in the data, before anything is trained
finetune run job.yaml       train and serve on this machine
finetune status [NAME]      what a job has come to, and the other verbs about jobs (`verbs`)
finetune chat [NAME]        ask the model that is being served
finetune report [NAME]      whether it was worth it
finetune report A B         two runs or revisions side by side
finetune compare A B        two jobs side by side, measured or not
finetune plan NAME|FILE     how a job trains, and why
finetune fetch NAME         bring the artifact that was published
finetune import FILE        another tool's configuration as a FineTuneJob
finetune ui                 the runs of this directory as a web page
finetune serve              OpenAI's fine-tuning API over the runs of this directory
finetune render job.yaml    the objects that the operator would create in a cluster

`kubectl finetune` is the same program (`plugin`).
"""

import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from finetune_cli import verbs
from finetune_cli.errors import ExitCode, UserError
from finetune_cli.extras import extra
from finetune_cli.importer import ImportOptions, Tool, import_file
from finetune_cli.output import OutputFormat
from finetune_cli.places import find
from finetune_cli.plan import is_file, plan_of, print_plan
from finetune_cli.render import render_manifest
from finetune_cli.run import run_manifest
from finetune_cli.verbs import PROGRAM, JobName, KubeContext, Namespace, Printed, cluster, proposed

out = Console()
err = Console(stderr=True)
app = typer.Typer(
    help="Fine-tune a language model from one manifest: train and serve it on this machine, or print what a cluster "
    "would be given.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.add_typer(verbs.app)

ManifestFile = Annotated[Path, typer.Argument(help="A file with one FineTuneJob.", show_default=False)]


def _tell_version(wanted: bool) -> None:
    if wanted:
        out.print(f"{PROGRAM} {version('finetune-operator')}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """What the program takes before a verb."""


@app.command()
def run(
    manifest: ManifestFile,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where to serve; another free port if this one is taken.")
    ] = 8000,
    serve: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Whether to serve the result once it is trained.")
    ] = True,
) -> None:
    """Prepare, train and serve a FineTuneJob on this machine.

    Stop with Ctrl-C; running again goes on from the last checkpoint, and ends at once where everything is done.
    Artifacts, logs and the status document are in .finetune/NAME.
    """
    run_manifest(manifest, port, serve, out)


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            help="An AutoTrain, TRL, axolotl or LLaMA-Factory YAML, TRL's command line in a file, or an "
            "OpenAI job's JSON.",
            show_default=False,
        ),
    ],
    tool: Annotated[
        Tool | None, typer.Option("--from", help="Whose it is, where that can't be seen.", show_default=False)
    ] = None,
    name: Annotated[str, typer.Option(help="The FineTuneJob's name.", show_default=False)] = "",
    model: Annotated[str, typer.Option(help="model.source, in place of what the file says.", show_default=False)] = "",
    train: Annotated[
        str, typer.Option(help="dataset.train.source, in place of what the file says.", show_default=False)
    ] = "",
    save: Annotated[
        Path | None, typer.Option("--save", help="Where to write the manifest.", show_default=False)
    ] = None,
) -> None:
    """Make a FineTuneJob of another tool's configuration, and tell what became of each of its settings.

    The manifest goes to the output or into a file, the table to the error output. Ends with 2 where something is left
    to be mended in it, which is told, too.
    """
    raise typer.Exit(import_file(file, ImportOptions(tool, name, model, train), save, out, err))


@app.command()
def check(
    manifest: ManifestFile,
    output: Printed = OutputFormat.TABLE,
) -> None:
    """Check a FineTuneJob's data on this machine, as a cluster would before it holds an accelerator.

    Shows rows, lengths, what is wrong or odd and where, some rows as the model sees them, and the plan. What is
    prepared stays in .finetune/NAME, and `finetune run` goes on from there.
    """
    with extra("data"):
        from finetune_cli.check import check_manifest

    check_manifest(manifest, output, out, err)


@app.command()
def plan(
    program: typer.Context,
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FILE]", help="A job, or a file with a FineTuneJob that is not run yet.", show_default=False
        ),
    ] = None,
    namespace: Namespace = None,
    context: KubeContext = None,
    output: Printed = OutputFormat.TABLE,
) -> None:
    """Tell how a job trains, and why: batch, learning rate, steps, memory.

    Of a job what was chosen for it, once its data is prepared. The data of a file is prepared here, as `finetune check`
    does.
    """
    if what is None or not is_file(what):
        _, job = find(what, cluster(program, namespace, context))
        return print_plan(plan_of(job), output, out)
    if namespace or context:
        raise UserError(f"{what} is planned on this machine: leave --namespace and --context out.", ExitCode.USAGE)
    with extra("data"):
        from finetune_cli.check import plan_of_file

    return print_plan(plan_of_file(Path(what), err), output, out)


@app.command()
def compare(
    program: typer.Context,
    first: Annotated[str, typer.Argument(metavar="NAME", help="A job.", show_default=False, autocompletion=proposed)],
    second: Annotated[
        str, typer.Argument(metavar="OTHER", help="Another one.", show_default=False, autocompletion=proposed)
    ],
    namespace: Namespace = None,
    context: KubeContext = None,
    output: Printed = OutputFormat.TABLE,
) -> None:
    """Show two jobs side by side: where they are, what is known of them, and what was asked for differently.

    `finetune report NAME OTHER` compares what was measured, row by row.
    """
    from finetune_cli.side_by_side import side_by_side

    there = cluster(program, namespace, context)
    side_by_side(find(first, there), find(second, there), output, out)


@app.command()
def report(
    program: typer.Context,
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
    namespace: Namespace = None,
    context: KubeContext = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Where to write the page, the pairs or the checklist.", show_default=False),
    ] = None,
    output: Printed = OutputFormat.TABLE,
    failures: Annotated[
        bool,
        typer.Option(
            "--failures", help="Print wrong answers as preference pairs (JSON Lines), the dataset of a DPO job."
        ),
    ] = False,
    card: Annotated[
        Path | None,
        typer.Option("--card", help="Write the scores into this README.md of a fetched artifact.", show_default=False),
    ] = None,
    checklist: Annotated[
        bool,
        typer.Option("--checklist", help="Answer what is asked before a fine-tuning is decided on, as Markdown."),
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
    from finetune_cli.compare import compare as compare_reports
    from finetune_cli.report import answer_checklist, given_prices, report_on, write_failures

    there = cluster(program, namespace, context)
    if card:
        with extra("data"):
            from finetune_cli.card import write_card

        return write_card(first, there, card, out)
    if failures:
        return write_failures(first, there, save, out, err)
    tokens = (million_prompt_tokens, million_completion_tokens, million_cached_tokens)
    prices = given_prices(currency, accelerator_hour, *tokens)
    if checklist and second:
        raise UserError("--checklist answers for one job: leave the other one out.", ExitCode.USAGE)
    if checklist:
        return answer_checklist(first, there, prices, save, output, out)
    if first and second:
        return compare_reports(first, second, there, output, out)
    return report_on(first, there, prices, save, output, out)


@app.command()
def chat(
    program: typer.Context,
    name: JobName = None,
    message: Annotated[
        str | None,
        typer.Option("--message", "-m", help="Ask this and end; left out, a conversation.", show_default=False),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(
            help="The system message; left out, of a run here the one that all rows of the training data have.",
            show_default=False,
        ),
    ] = None,
    base: Annotated[bool, typer.Option("--base", help="Ask the base model instead, to compare.")] = False,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0 always takes the likeliest word.")] = 0.0,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="FINETUNE_API_KEY", help="What hosting.apiKey asks for.", show_default=False),
    ] = None,
    namespace: Namespace = None,
    context: KubeContext = None,
) -> None:
    """Ask the model that a job serves: here, or in a cluster through kubectl's port-forward."""
    # The openai client takes a second to import, and no other command needs it.
    from finetune_cli.chat import ChatOptions, chat_with

    place, job = find(name, cluster(program, namespace, context))
    chat_with(place, job, ChatOptions(message, system, base, temperature, api_key), out)


@app.command()
def fetch(
    program: typer.Context,
    what: Annotated[str, typer.Argument(metavar="NAME|URI", help="A FineTuneJob, or where one was published.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="A new directory; left out, the revision's name.", show_default=False)
    ] = None,
    namespace: Namespace = None,
    context: KubeContext = None,
    verify_key: Annotated[
        Path | None,
        typer.Option("--verify-key", help="A public key in PEM, which has to have signed it.", show_default=False),
    ] = None,
) -> None:
    """Bring the artifact that output.destination was given, and verify each file.

    Credentials are taken from the environment: AWS_ACCESS_KEY_ID and so on (docs/addresses.md).
    """
    with extra("data"):
        from finetune_cli.fetch import fetch_artifact

    fetch_artifact(what, to, cluster(program, namespace, context), out, verify_key)


@app.command()
def render(
    manifest: ManifestFile,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Left out: the manifest's, or default.", show_default=False)
    ] = None,
) -> None:
    """Print the objects that the operator would create for a new FineTuneJob, as YAML."""
    sys.stdout.write(render_manifest(manifest, namespace))


@app.command()
def ui(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where to listen; another free port if this one is taken.")
    ] = 8080,
) -> None:
    """Show the runs of this directory as a web page, on this machine alone, until Ctrl-C.

    Open the address that it prints: its token lets you in. What runs goes on when the page ends.
    """
    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise UserError("The page needs a few libraries more: pip install 'finetune-operator[cli,ui]'.")
    from finetune_cli.ui import serve

    serve(port, out)


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where to listen.")] = 8081,
    models: Annotated[
        Path | None,
        typer.Option(help="What may be fine-tuned: a YAML file like the chart's api.models.", show_default=False),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=SOURCE, one more that may be fine-tuned: hf://ORG/NAME or a directory. Without any, "
            "HuggingFaceTB/SmolLM2-135M-Instruct.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        str,
        typer.Option(envvar="FINETUNE_SERVE_KEY", help="Answer only who sends this key.", show_default=False),
    ] = "",
) -> None:
    """Answer OpenAI's fine-tuning API over the runs of this directory, on this machine alone, until Ctrl-C.

    A job that is made there is a manifest here and a `finetune run` of it, which goes on when this ends.
    """
    with extra("serve"):
        from finetune_cli.serve import serve as answer

    answer(port, models, model or [], key, out)


def main(program: str = PROGRAM) -> None:
    """Entry point. What the user can mend is a sentence on standard error; a traceback is our fault."""
    try:
        app(prog_name=program)
    except UserError as error:
        err.print("[bold red]error:[/] ", end="")
        err.print(error.message, markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.code)
