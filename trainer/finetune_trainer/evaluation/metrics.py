"""How answers are held against references: each metric's definition, which fit the data, and which are chosen.

Called by `measuring`, `testset` and `result`. Pure. A metric becomes a Statistic, a function of how
often each row counts, so that `intervals` can resample every metric alike, those too that are no mean over rows.
"""

import json
import string
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune_trainer.contract.config import Metric
from finetune_trainer.evaluation.normalise import document, label, said
from finetune_trainer.evaluation.words import PUNCTUATION, length, words

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Statistic:
    """A metric of some rows. `resampled`: weights of shape (resamples, rows), how often each row stands in a resample,
    to values of shape (resamples,). `rows`: the metric of each row by itself.
    """

    resampled: Callable[[Array], Array]
    rows: tuple[float, ...]

    def __call__(self, weights: Array) -> Array:
        """The metric of each resample."""
        return self.resampled(weights)


# More labels than that, or fewer rows for each, are answers and no labels.
LABELS, ROWS_PER_LABEL, LABEL_WORDS = 20, 5, 5
# Up to so many words an answer is expected word for word.
SHORT_WORDS = 20


def statistic(metric: Metric, predictions: Sequence[str], references: Sequence[str]) -> Statistic:
    """The metric of these answers, any but those that other modules measure; they and `references` are equally long."""
    told, right = [said(text) for text in predictions], [said(text) for text in references]
    if metric == Metric.MACRO_F1:
        return _macro_f1([label(text) for text in told], [label(text) for text in right])
    score = _ROW_SCORES[metric]
    return mean([score(prediction, reference) for prediction, reference in zip(told, right, strict=True)])


def mean(scores: Sequence[float]) -> Statistic:
    """The mean of the rows' scores."""
    rows = np.array(scores, dtype=float)
    return Statistic(lambda weights: weights @ rows / weights.sum(axis=1), tuple(rows.tolist()))


def fits(metric: Metric, references: Sequence[str]) -> str | None:
    """None, or why the metric says nothing about rows with these answers, as the end of a sentence."""
    if metric in (Metric.JSON_VALID, Metric.JSON_FIELDS_F1) and not all_json(references):
        return "their answers are not all JSON objects or arrays"
    if metric in (Metric.LABEL_ACCURACY, Metric.MACRO_F1) and not are_labels(references):
        return f"their answers are no labels, of which there are at most {LABELS} and {ROWS_PER_LABEL} rows for each"
    return None


def choose(references: Sequence[str]) -> tuple[tuple[Metric, ...], str]:
    """The metrics for rows with these answers, the one that decides first, and why."""
    if all_json(references):
        return (Metric.JSON_FIELDS_F1, Metric.EXACT_MATCH, Metric.JSON_VALID), "All answers are JSON."
    if are_labels(references):
        labels = len({label(said(text)) for text in references})
        return (Metric.LABEL_ACCURACY, Metric.MACRO_F1), f"The answers are {labels} labels that recur."
    size = sum(length(said(text)) for text in references) / len(references)
    if size <= SHORT_WORDS:
        return (Metric.EXACT_MATCH, Metric.TOKEN_F1), f"Answers are short, {size:.0f} words on average."
    return (Metric.ROUGE_L, Metric.TOKEN_F1), f"Answers are long, {size:.0f} words on average."


def _exact_match(prediction: str, reference: str) -> float:
    return float(prediction == reference)


def _token_f1(prediction: str, reference: str) -> float:
    """SQuAD's F1 (Rajpurkar et al. 2016): the words in common, without case, punctuation and articles."""
    return _f1(Counter(_squad_words(prediction)), Counter(_squad_words(reference)))


def _squad_words(text: str) -> list[str]:
    bare = text.lower().translate(str.maketrans("", "", string.punctuation + PUNCTUATION))
    return [word for word in words(bare) if word not in ("a", "an", "the")]


def _f1(found: Counter[Any], right: Counter[Any]) -> float:
    """Harmonic mean of precision and recall of two bags; 1 when both are empty."""
    total = found.total() + right.total()
    return 2 * (found & right).total() / total if total else 1.0


def rouge_l(prediction: str, reference: str) -> float:
    """ROUGE-L's F1 (Lin 2004): the longest common subsequence of lower-case words; 1 when both have none."""
    left, right = words(prediction.lower()), words(reference.lower())
    total = len(left) + len(right)
    return 2 * _common(left, right) / total if total else 1.0


def _common(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence, one row of the table at a time."""
    best = [0] * (len(right) + 1)
    for word in left:
        above = best
        best = [0]
        for column, other in enumerate(right):
            best.append(above[column] + 1 if word == other else max(above[column + 1], best[column]))
    return best[-1]


def _json_valid(prediction: str, reference: str) -> float:
    return float(parsed(prediction) is not None)


def _json_fields_f1(prediction: str, reference: str) -> float:
    """F1 over the values at the ends of both documents, each with its path; places in a list are not told apart."""
    found = parsed(prediction)
    return 0.0 if found is None else _f1(Counter(_leaves(found)), Counter(_leaves(parsed(reference))))


def parsed(text: str) -> Any:
    """The JSON object or array in `text`; None for anything else."""
    try:
        found = json.loads(document(text), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict | list) else None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _leaves(document: Any) -> Iterator[Hashable]:
    # Not recursive: garbage may be nested as deep as the parser just reads.
    left: list[tuple[tuple[str, ...], Any]] = [((), document)]
    while left:
        path, value = left.pop()
        if isinstance(value, dict) and value:
            left += [((*path, key), inner) for key, inner in value.items()]
        elif isinstance(value, list) and value:
            left += [((*path, "[]"), inner) for inner in value]
        elif path or not isinstance(value, dict | list):
            # As JSON: 1 and true are equal in Python.
            yield path, json.dumps(value)


def _label_accuracy(prediction: str, reference: str) -> float:
    return float(label(prediction) == label(reference))


def _macro_f1(predictions: Sequence[str], references: Sequence[str]) -> Statistic:
    """The mean of each label's F1, all labels alike. Labels are those of the references that stand in the resample: of
    a row by itself one, so that it is wholly right or wrong.
    """
    labels = sorted(set(references))
    said = np.array([[prediction == label for label in labels] for prediction in predictions], dtype=float)
    right = np.array([[reference == label for label in labels] for reference in references], dtype=float)

    def value(weights: Array) -> Array:
        both, there = weights @ (said * right), weights @ right
        f1 = 2 * both / np.maximum(weights @ said + there, 1)
        present = there > 0
        mean: Array = (f1 * present).sum(axis=1) / present.sum(axis=1)
        return mean

    alone = tuple(float(prediction == reference) for prediction, reference in zip(predictions, references, strict=True))
    return Statistic(value, alone)


def all_json(references: Sequence[str]) -> bool:
    """Whether each is a JSON object or array."""
    return all(parsed(said(text)) is not None for text in references)


def are_labels(references: Sequence[str]) -> bool:
    """Whether they are few short texts that recur."""
    labels = {label(said(text)) for text in references}
    few = len(labels) <= LABELS and len(references) >= ROWS_PER_LABEL * len(labels)
    return few and all(length(each) <= LABEL_WORDS for each in labels)


_ROW_SCORES: dict[Metric, Callable[[str, str], float]] = {
    Metric.EXACT_MATCH: _exact_match,
    Metric.TOKEN_F1: _token_f1,
    Metric.ROUGE_L: rouge_l,
    Metric.JSON_VALID: _json_valid,
    Metric.JSON_FIELDS_F1: _json_fields_f1,
    Metric.LABEL_ACCURACY: _label_accuracy,
}
