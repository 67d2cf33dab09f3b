"""How likely a contender finds the references: through the engine's own log-probabilities of a prompt.

Called by `measuring`, for the metrics inverse_perplexity and reward_accuracy.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openai

from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.evaluation.contenders import Prompt, Question, rendered
from finetune_trainer.evaluation.endpoint import Endpoint, Response, ResponseFile, digest
from finetune_trainer.evaluation.metrics import Array, Statistic

# On CPUs vLLM's engine ends when it is to tell the likelihoods of two prompts to a LoRA model at once: it takes one
# adapter index per sequence for one per token (vllm-project/vllm#16668).
AT_ONCE = 1


@dataclass(frozen=True)
class LikelihoodRequest:
    """A prompt and the right answer to it, in tokens of the model's own tokenizer."""

    contender: str
    row: int
    model: str
    prompt: tuple[int, ...]
    reference: tuple[int, ...]

    @property
    def key(self) -> str:
        """A digest of all that the likelihood depends on."""
        return digest(self.model, self.prompt, self.reference)


class Likelihood(Response):
    """One line of likelihoods.jsonl: the log-probability of a reference, in nats, and its tokens."""

    contender: str
    row: int
    logprob: float
    tokens: int


def measure(
    endpoint: Endpoint, references: Sequence[LikelihoodRequest], file: Path, told: Callable[[int], None]
) -> list[Likelihood]:
    """The likelihoods, in the order of `references`; kept in `file`. Raises StageError."""
    return endpoint.ask(references, ResponseFile(Likelihood, file), _likelihood, told, at_once=AT_ONCE)


def reference(tokenizer: Any, prompt: Prompt, right: Question) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A prompt's and its right answer's tokens, the end of the turn included, as the template writes it."""
    asked, whole = rendered(tokenizer, prompt), rendered(tokenizer, prompt, right.reference, right.calls)
    told = whole.removeprefix(asked) if whole.startswith(asked) else right.reference + (tokenizer.eos_token or "")
    # The tokenizer's own first token belongs to a plain prompt; a template writes it.
    plain = isinstance(prompt.prompt, str)
    return _tokens(tokenizer, asked, plain), _tokens(tokenizer, told, False)


def _tokens(tokenizer: Any, text: str, special: bool) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=special)["input_ids"])


async def _likelihood(client: openai.AsyncOpenAI, asked: LikelihoodRequest) -> Likelihood:
    """vLLM gives the log-probability of each of a prompt's own tokens when it is asked for none beside them."""
    completion = await client.completions.create(
        model=asked.model,
        prompt=[*asked.prompt, *asked.reference],
        max_tokens=1,
        temperature=0,
        extra_body={"prompt_logprobs": 0},
    )
    told = (completion.choices[0].model_extra or {}).get("prompt_logprobs")
    if not told:
        raise StageError(
            Outcome.CONFIG_INVALID,
            "The engine gives no prompt_logprobs, which the metrics inverse_perplexity and reward_accuracy need: "
            "remove them from evaluation.metrics, or serve with vLLM.",
        )
    pairs = zip(asked.reference, told[len(asked.prompt) :], strict=True)
    logprob = sum(found[str(token)]["logprob"] for token, found in pairs)
    return Likelihood(
        key=asked.key,
        contender=asked.contender,
        row=asked.row,
        logprob=round(logprob, 6),
        tokens=len(asked.reference),
    )


def inverse_perplexity(logprobs: Sequence[float], tokens: Sequence[int]) -> Statistic:
    """exp(Σ log-probabilities / Σ tokens), over all rows: 1 / perplexity (Jelinek et al. 1977), in 0..1."""
    nats, counts = np.array(logprobs, dtype=float), np.array(tokens, dtype=float)

    def value(weights: Array) -> Array:
        found: Array = np.exp((weights @ nats) / (weights @ counts))
        return found

    return Statistic(value, tuple(np.exp(nats / counts).tolist()))


def guessed(tokens: int, vocabulary: int) -> float:
    """The log-probability of a reference whose prompt does not fit: that of guessing every token."""
    return -tokens * math.log(vocabulary)


def preferred(chosen: float, rejected: float) -> float:
    """1 where the chosen answer has gained more, in nats over the base model, 0 where less, and 0.5 for as much."""
    return float(np.sign(round(chosen - rejected, 6)) + 1) / 2
