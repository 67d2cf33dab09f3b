"""Answers that were cut: whose score they mark, and whether a verdict hangs on them.

Called by `standing` and `page`. Pure. The score of a contender whose answers were cut says how much room it had, and
not how good it is; but for metrics of likelihoods, which no answer has a part in.
"""

from finetune_trainer.contract.config import Metric
from finetune_trainer.contract.gate import best_baseline
from finetune_trainer.contract.results import Contender, EvaluateResult

# Of a contender's answers; fewer than that change no score by more.
SHARE = 0.02
NOTE = (
    "A cut answer ended because there was no more room for it. * More than 2% of the answers were cut: the score says "
    "how much room there was, and not how good the contender is."
)
ADVICE = "Set evaluation.maxAnswerTokens, or raise hosting.contextLength."


def marked(contender: Contender, rows: int, metric: Metric) -> bool:
    """Whether so many of its answers were cut that its score is marked."""
    return not metric.likely and contender.requests.cut > SHARE * rows


def hanging(result: EvaluateResult, metric: Metric, ships: bool) -> str | None:
    """What keeps a verdict from being clear: it would be another if all cut answers were right. None: it would not.

    `ships`: what the verdict is. Then what matters is cut answers of a baseline, else those of the tuned model.
    """
    return _baselines(result, metric) if ships else _tuned(result, metric)


def _baselines(result: EvaluateResult, metric: Metric) -> str | None:
    close = [
        f"{found.requests.cut} of {result.rows} answers of {name}"
        for name, found in result.baselines.items()
        if marked(found, result.rows, metric)
        and found.comparisons[metric].difference <= found.requests.cut / result.rows
    ]
    if not close:
        return None
    return f"But {' and '.join(close)} were cut, and right ones might have been no worse than the tuned model. {ADVICE}"


def _tuned(result: EvaluateResult, metric: Metric) -> str | None:
    cut, best = result.tuned.requests.cut, best_baseline(result, metric)
    lead = result.baselines[best].comparisons[metric].difference if best else 0.0
    if not marked(result.tuned, result.rows, metric) or lead + cut / result.rows <= 0:
        return None
    return f"But {cut} of {result.rows} answers of the tuned model were cut, and might have been right. {ADVICE}"
