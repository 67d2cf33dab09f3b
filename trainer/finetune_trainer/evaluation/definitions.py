"""What each metric means and where it is from, for people: the report and `docs/metrics.md` are made from this."""

from finetune_trainer.contract.config import Metric

DEFINITIONS: dict[Metric, str] = {
    Metric.EXACT_MATCH: "the share of answers that are the reference, letter for letter, but for white space around it",
    Metric.TOKEN_F1: (
        "the words in common with the reference, without case, punctuation and articles, as F1 of precision and recall "
        "(SQuAD: Rajpurkar et al. 2016)"
    ),
    Metric.ROUGE_L: (
        "the longest common subsequence of words with the reference, without case, as F1 of precision and recall "
        "(Lin 2004)"
    ),
    Metric.JSON_VALID: "the share of answers that are a JSON object or array (RFC 8259)",
    Metric.JSON_FIELDS_F1: (
        "the fields in common with the reference, each a path and its value, as F1 of precision and recall; an answer "
        "that is no JSON counts 0"
    ),
    Metric.LABEL_ACCURACY: "the share of answers that are the reference's label, without case",
    Metric.MACRO_F1: "the F1 of each label of the references, all labels alike (Opitz and Burst 2019)",
    Metric.INVERSE_PERPLEXITY: (
        "one divided by the perplexity of the references: the geometric mean of the probabilities of their tokens "
        "(Jelinek et al. 1977), as the engine itself gives them"
    ),
    Metric.JUDGE: (
        "how another model sees the answer beside the reference: 1 better, 0.5 as good, 0 worse, asked twice with "
        "places swapped (Zheng et al. 2023)"
    ),
}
