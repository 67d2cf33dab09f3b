"""What each metric means and where it is from, for people: the report and `docs/metrics.md` are made from this."""

from finetune_trainer.contract.config import Metric
from finetune_trainer.contract.results import EvaluateResult

# What `normalise.said` does.
NORMALISED = (
    "Formatting is no ignorance: of all contenders' answers, and of references, the same is compared. Thinking before "
    "an answer is no part of it (all up to the last `</think>`; thinking without an end says nothing), nor is a code "
    "fence around the whole, nor white space around that. Tool calls are their names and arguments, in whatever form "
    "and order they are written. Where a language is written without spaces (Chinese, Japanese, Thai, Lao, Khmer, "
    "Burmese), each character counts as a word; when the metrics are chosen, half a word"
)

DEFINITIONS: dict[Metric, str] = {
    Metric.EXACT_MATCH: "the share of answers that are the reference, letter for letter",
    Metric.TOKEN_F1: (
        "the words in common with the reference, without case, punctuation and articles, as F1 of precision and recall "
        "(SQuAD: Rajpurkar et al. 2016)"
    ),
    Metric.ROUGE_L: (
        "the longest common subsequence of words with the reference, without case, as F1 of precision and recall "
        "(Lin 2004)"
    ),
    Metric.JSON_VALID: "the share of answers that are a JSON object or array (RFC 8259), or have one in a code fence",
    Metric.JSON_FIELDS_F1: (
        "the fields in common with the reference, each a path and its value, as F1 of precision and recall; JSON in a "
        "code fence counts as JSON, and an answer that has none counts 0"
    ),
    Metric.LABEL_ACCURACY: (
        "the share of answers that are the reference's label, without case, quotes around it and a full stop behind it"
    ),
    Metric.MACRO_F1: (
        "the F1 of each label of the references, all labels alike (Opitz and Burst 2019), compared as by label_accuracy"
    ),
    Metric.SQL_EXECUTION: (
        "the share of answers in SQL that find what the reference finds, in four SQLite databases with the tables of "
        "the prompt's CREATE TABLE statements and rows drawn at random (after Zhong et al. 2020): the same rows, in "
        "order where the reference says ORDER BY; where the reference finds nothing, its words"
    ),
    Metric.INVERSE_PERPLEXITY: (
        "one divided by the perplexity of the references: the geometric mean of the probabilities of their tokens "
        "(Jelinek et al. 1977), as the engine itself gives them"
    ),
    Metric.REWARD_ACCURACY: (
        "the share of pairs of preference whose chosen answer has the higher implied reward: its likelihood, by the "
        "engine itself, has risen more over the base model's than the rejected one's (Rafailov et al. 2023); 0.5 is no "
        "preference, and what the base model itself has"
    ),
    Metric.RANKING_ACCURACY: (
        "of reward models: the share of pairs whose chosen answer has the higher reward, as the engine itself tells "
        "it, and half of those whose answers have the same (RewardBench: Lambert et al. 2024); guessing has 0.5"
    ),
    Metric.JUDGE: (
        "how another model sees the answer beside the reference: 1 better, 0.5 as good, 0 worse, asked twice with "
        "places swapped (Zheng et al. 2023)"
    ),
}


def unmeasured(result: EvaluateResult) -> str | None:
    """Which contender lacks a score, and why, as a sentence; None where all have all."""
    names = [name for name, found in result.baselines.items() if set(found.scores) < set(result.metrics)]
    if not names:
        return None
    lacking = " and no ".join(metric.value for metric in result.metrics if metric.likely)
    return f"An endpoint tells no likelihoods, so that {' and '.join(names)} has no {lacking}."
