"""`finetune report --card`: what was measured goes into the model card of an artifact that was fetched."""

import json
from pathlib import Path

from finetune_trainer.contract.config import RUN_CONFIG
from finetune_trainer.evaluation.card import evaluated
from rich.console import Console

from finetune_cli.cluster import Cluster
from finetune_cli.errors import ExitCode, UserError
from finetune_cli.reported import reported


def write_card(name: str | None, cluster: Cluster | None, card: Path, console: Console) -> None:
    """Write the evaluation of NAME into `card`, a README.md beside its run_config.json. UserError where it is none."""
    decision = reported(name, cluster).decision
    trained = card.with_name(RUN_CONFIG)
    if not card.is_file() or not trained.is_file():
        raise UserError(f"{card} is no model card of an artifact: name the README.md that was fetched.", ExitCode.USAGE)
    revision = json.loads(trained.read_text("utf-8"))["revision"]
    if revision != decision.revision:
        raise UserError(
            f"{card} is of revision {revision}, and the report of {decision.revision}: name {decision.name}/{revision}."
        )
    card.write_text(evaluated(card.read_text("utf-8"), decision), encoding="utf-8")
    console.print(
        f"{card} has the evaluation of {decision.name}, revision {revision}.", highlight=False, soft_wrap=True
    )
    console.print("It is another file now than the one that the artifact's digest covers.", soft_wrap=True)
