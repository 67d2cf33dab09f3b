"""A model behind an endpoint of its own, as a baseline: what might be shipped in place of fine-tuning.

Called by `others` and `measuring`. It gets a row's messages, under the baseline's own prompt, as any OpenAI
client would send them: nothing in vLLM's words, no examples, and never a prompt in place of messages.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import openai

from finetune_trainer.contract.config import EndpointConfig
from finetune_trainer.evaluation.ask import AnswerRequest, Prediction, complete
from finetune_trainer.evaluation.contenders import Framing, Prompt, Question, with_examples
from finetune_trainer.evaluation.endpoint import Endpoint, ResponseFile, key_of
from finetune_trainer.evaluation.manner import BRIEF, Manner, understood
from finetune_trainer.evaluation.normalise import said
from finetune_trainer.evaluation.result import ContenderPrompts, Predictions, predictions_of

# Room for a number, and for no thoughts.
EASY = Prompt(({"role": "user", "content": "How much is two and two? Reply with the number alone."},), 0, max_tokens=16)


class Remote:
    """The model of a baseline of this `label`; `place`: the baseline's in the manifest.

    Raises StageError when it can't be asked. `prompt`: the task in the baseline's own words.
    """

    def __init__(self, config: EndpointConfig, label: str, place: int, prompt: str | None) -> None:
        self.name, self._config, self._prompt = label, config, prompt
        mend = f"Mend evaluation.baselines[{place}]: its url, model and credentials; or remove it."
        self._endpoint = Endpoint(f"The baseline {label}", config.url, key_of(f"BASELINE_{place}"), mend)
        self._manner = BRIEF

    def probe(self) -> None:
        """Ask it something easy, and from then on in the manner that it understood."""
        self._manner = asyncio.run(self._probe())

    async def _probe(self) -> Manner:
        async with self._endpoint.client(kept="") as client:
            return await understood(self._endpoint.name, partial(self._answers, client))

    async def _answers(self, client: openai.AsyncOpenAI, manner: Manner) -> bool:
        prediction = await complete(client, self._request(0, EASY, manner))
        return bool(said(prediction.text)) and not prediction.cut

    def ask(
        self,
        questions: Sequence[Question],
        max_tokens: int,
        kept: ResponseFile[Prediction],
        told: Callable[[int], None],
    ) -> Predictions:
        """Its answers, each of at most so many tokens; `told` hears how many there are after each."""
        framing = Framing(system=self._prompt)
        asked = tuple(
            replace(with_examples(_as_chat(question), (), framing), max_tokens=max_tokens) for question in questions
        )
        requests = [self._request(row, prompt, self._manner) for row, prompt in enumerate(asked)]
        predictions = self._endpoint.ask(requests, kept, complete, told)
        found = {(self.name, row): prediction for row, prediction in enumerate(predictions)}
        return predictions_of(ContenderPrompts(self.name, self._config.model, asked, 0, remote=True), found, questions)

    def _request(self, row: int, prompt: Prompt, manner: Manner) -> AnswerRequest:
        return AnswerRequest(self.name, row, self._config.model, prompt, prompt.max_tokens, self._config.url, manner)


def _as_chat(question: Question) -> Question:
    """Where the tuned model has no chat template, this one has."""
    if not isinstance(question.prompt, str):
        return question
    return replace(question, prompt=({"role": "user", "content": question.prompt},))
