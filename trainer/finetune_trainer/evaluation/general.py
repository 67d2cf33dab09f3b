"""General prompts, to see how far a tuned model has drifted from its base model. Called by `measuring` and `result`.

They are of no benchmark: what matters is not whether an answer is right, but whether tuning has changed it.
"""

from collections.abc import Sequence

from finetune_trainer.evaluation import metrics
from finetune_trainer.evaluation.contenders import Framing, Prompt
from finetune_trainer.evaluation.metrics import Statistic

MAX_TOKENS = 32

PROMPTS = (
    "What is the capital of Portugal?",
    "Name three primary colours.",
    "How many minutes are there in two and a half hours?",
    "What do bees collect from flowers?",
    "Which planet is closest to the sun?",
    "Write one sentence about the sea in winter.",
    "Translate to French: Where is the train station?",
    "Translate to Spanish: The book is on the table.",
    "Make this sentence polite: Give me the report now.",
    "Correct the spelling: I recieved your mesage yesterday.",
    "Give a synonym for happy.",
    "What is the opposite of ancient?",
    "What is 17 plus 26?",
    "If a shirt costs 40 euros and is reduced by a quarter, what does it cost?",
    "Write a Python expression that reverses the string s.",
    "What does the command ls do in a Unix shell?",
    "Explain in one sentence what an antibiotic is.",
    "Why does ice float on water?",
    "Suggest a title for a story about a lost dog that finds its way home.",
    "Give one tip for falling asleep more easily.",
    "Summarise in five words: The meeting was moved to Thursday because the room was taken.",
    "Is this review positive or negative? The food was cold and nobody smiled.",
    "List two things to pack for a day of hiking.",
    "Write a short thank-you note to a neighbour.",
)


def prompts(framing: Framing) -> list[Prompt]:
    """The prompts as single turns."""
    return [Prompt(({"role": "user", "content": text},), examples=0, extra=framing.extra) for text in PROMPTS]


def drift(base: Sequence[str], tuned: Sequence[str]) -> Statistic:
    """1 - ROUGE-L of the tuned model's answers to the base model's: 0 for the same words, 1 for none in common."""
    return metrics.mean([1 - metrics.rouge_l(ours, theirs) for ours, theirs in zip(tuned, base, strict=True)])
