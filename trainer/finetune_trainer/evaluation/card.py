"""What an evaluation says, in a model card: Hugging Face's `model-index`, and a table for people.

Called by `finetune report --card`, since a card is written before anything is measured. Pure.
"""

from typing import Any

from huggingface_hub import EvalResult, ModelCard

from finetune_trainer.contract.config import Metric
from finetune_trainer.contract.results import TUNED, Contender
from finetune_trainer.evaluation.decision import Decision

HEADING = "## Evaluation"
# The hub wants a dataset's id; rows that it does not have have none.
ELSEWHERE = "custom"
TRAIN, TEST = "dataset.train", "dataset.test"


def evaluated(text: str, decision: Decision) -> str:
    """The card with the results of an evaluation, in place of any that it had."""
    card = ModelCard(text)
    # A ModelCardData, which the library's types don't say.
    data: Any = card.data
    data.model_name = decision.name
    data.eval_results = _results(data, decision)
    before = card.text.partition(f"\n{HEADING}\n")[0].rstrip()
    return f"---\n{data.to_yaml()}\n---\n{before}\n\n{_section(decision)}\n"


def _results(data: Any, decision: Decision) -> list[EvalResult]:
    """The tuned model's scores. The hub shows no intervals: those are in the table."""
    datasets = data.datasets or [ELSEWHERE]
    source = decision.manifest.get(TEST) or decision.manifest.get(TRAIN) or ELSEWHERE
    return [
        EvalResult(
            task_type=data.pipeline_tag or "text-generation",
            dataset_type=datasets[0],
            dataset_name=source,
            dataset_split="test",
            metric_type=metric.value,
            metric_name=metric.value,
            metric_value=round(decision.result.tuned.scores[metric].score, 4),
        )
        for metric in decision.result.metrics
    ]


def _section(decision: Decision) -> str:
    result = decision.result
    contenders = {TUNED: result.tuned, **result.baselines}
    rows = [_row(name, [_score(each, metric) for metric in result.metrics]) for name, each in contenders.items()]
    names = [metric.value for metric in result.metrics]
    head = [_row("", names), _row("---", ["---" for _ in names])]
    told = f"{decision.headline} Scores of {result.rows} test rows, with 95% intervals:"
    return "\n".join([HEADING, "", told, "", *head, *rows])


def _row(name: str, cells: list[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _score(contender: Contender, metric: Metric) -> str:
    found = contender.scores.get(metric)
    return f"{found.score:.3f} ({found.low:.2f} to {found.high:.2f})" if found else "-"
