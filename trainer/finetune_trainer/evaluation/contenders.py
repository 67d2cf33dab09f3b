"""What each contender is asked: a row as a question, alone or behind examples from train, fitted into the context.

Called by `measuring`, and by all others that write prompts or count their tokens. Pure, but for the tokenizer that
measures: the same rows and seed give the same prompts.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jinja2

from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.evaluation import calls

Message = dict[str, Any]
Text = str | tuple[Message, ...]
# An answer may be right and wordier than any that is known, and a model that was never told how to answer begins with
# politeness: neither is to be cut.
SPARE_SHARE, ROOM_TOKENS = 1.5, 256
# The roles of whoever says what the task is.
INSTRUCTING = ("system", "developer")
# The end of a turn, as templates write it.
END_TOKENS = 8


@dataclass(frozen=True)
class Question:
    """A row: what is asked (messages, or a string where the model has no chat template), and the right answer.

    `calls`: of an answer that calls tools the message, as templates take it; `reference` is then `calls.written`.
    `rejected`: of a row of preference the question with the answer to avoid.
    """

    prompt: Text
    reference: str
    tools: tuple[Message, ...] = ()
    calls: Message | None = None
    rejected: "Question | None" = None

    @property
    def answers(self) -> "tuple[Question, Question]":
        """Of a row of preference the chosen answer and the rejected one: see `testset.chosen`."""
        return self, self.rejected or self

    @property
    def asked(self) -> str:
        """What the user said last."""
        return self.prompt if isinstance(self.prompt, str) else str(self.prompt[-1].get("content") or "")

    @property
    def text(self) -> str:
        """All that was said, for people and judges."""
        if isinstance(self.prompt, str):
            return self.prompt
        return "\n".join(f"{message['role']}: {message.get('content') or ''}" for message in self.prompt)


@dataclass(frozen=True)
class Prompt:
    """What is sent, how many examples it has, and for how many tokens of an answer there is room.

    `extra`: what the request says beside, in vLLM's words.
    """

    prompt: Text
    examples: int
    tools: tuple[Message, ...] = ()
    max_tokens: int = 0
    extra: Message = field(default_factory=dict)


@dataclass(frozen=True)
class Framing:
    """What is the same in all requests of a contender. `extra`: see Prompt.

    `system`: the task in a baseline's own words, in place of the rows' system message. `joint`: what stands between
    examples where there is no chat template.
    """

    extra: Message = field(default_factory=dict)
    system: str | None = None
    joint: str = "\n\n"


PLAIN = Framing()
TEMPLATE_KWARGS = "chat_template_kwargs"


# Between examples without a chat template; the first that stands in no known answer.
JOINTS = ("\n\n", "\n\n###\n\n")


def template(kwargs: Mapping[str, Any]) -> Framing:
    """The framing of a model whose chat template takes these variables."""
    return Framing({TEMPLATE_KWARGS: dict(kwargs)}) if kwargs else PLAIN


def verbatim(references: Iterable[str]) -> Framing:
    """The framing of a model without a chat template: an answer ends with its line, or where an example would.

    What it stops at stands in no known answer.
    """
    there: set[str] = set()
    for text in references:
        there.update(each for each in ("\n", *JOINTS) if each in text)
    joint = next((each for each in JOINTS if each not in there), JOINTS[-1])
    stop = joint if "\n" in there else "\n"
    return Framing({"stop": [stop]}, joint=joint)


Measure = Callable[[Prompt], int]


def read(line: bytes | str) -> Question:
    """A row as prepare stores it. Raises StageError (CONFIG_INVALID) for one that has no answer."""
    row = json.loads(line)
    tools = tuple(json.loads(row["tools"])) if row.get("tools") else ()
    if "messages" in row:
        *asked, answer = row["messages"]
        return Question(tuple(asked), _content(answer), tools, calls.message(answer))
    if "prompt" not in row:
        raise StageError(
            Outcome.CONFIG_INVALID,
            "Rows of format text have no answer that could be compared: remove evaluation's metrics and gate, or write "
            "the rows as prompt and completion.",
        )
    # What is preferred is what is right.
    found = _answered(row["prompt"], row["chosen" if "chosen" in row else "completion"], tools)
    return replace(found, rejected=_answered(row["prompt"], row["rejected"], tools)) if "rejected" in row else found


def _answered(prompt: Any, completion: Any, tools: tuple[Message, ...]) -> Question:
    if isinstance(prompt, str):
        return Question(prompt, completion)
    return Question(tuple(prompt), _content(completion[-1]), tools, calls.message(completion[-1]))


def _content(answer: Message) -> str:
    """An answer's text; of one that calls tools, the calls."""
    return calls.written(made) if (made := answer.get("tool_calls")) else answer.get("content") or ""


def with_examples(question: Question, examples: Sequence[Question], framing: Framing = PLAIN) -> Prompt:
    """The question behind examples, told as earlier turns: after the system message, before what the user says.

    Of an example its last turn is told; a system message of its own would contradict the question's.
    """
    if isinstance(question.prompt, str):
        told = f"{framing.system}\n\n" if framing.system else ""
        told += "".join(f"{example.prompt}{example.reference}{framing.joint}" for example in examples)
        return Prompt(told + question.prompt, len(examples), extra=framing.extra)
    system = tuple(message for message in question.prompt if message["role"] in INSTRUCTING)
    if framing.system:
        system = ({"role": "system", "content": framing.system},)
    turns = (
        message
        for example in examples
        for message in (
            {"role": "user", "content": example.asked},
            {"role": "assistant", "content": example.reference},
        )
    )
    rest = tuple(message for message in question.prompt if message["role"] not in INSTRUCTING)
    return Prompt((*system, *turns, *rest), len(examples), question.tools, extra=framing.extra)


@dataclass(frozen=True)
class Room:
    """The context, in tokens, and what an answer gets of it: `most`, and no less than `least` for an example's sake."""

    context: int
    most: int
    least: int
    count: Callable[[str], int]

    def needed(self, answer: str) -> int:
        """What this answer needs."""
        return min(self.count(answer) + END_TOKENS, self.most)


def fit(
    question: Question, examples: Sequence[Question], measure: Measure, room: Room, framing: Framing = PLAIN
) -> Prompt | None:
    """The prompt with as many of the last `examples` as leave room for an answer.

    None when the question and its right answer don't fit the context, even alone.
    """
    alone = with_examples(question, (), framing)
    free = room.context - measure(alone)
    if free < room.needed(question.reference):
        return None
    for dropped in range(len(examples)):
        prompt = with_examples(question, examples[dropped:], framing)
        left = room.context - measure(prompt)
        if left >= room.least:
            return replace(prompt, max_tokens=min(left, room.most))
    return replace(alone, max_tokens=min(free, room.most))


def room(references: Iterable[str], count: Callable[[str], int], context: int, most: int | None = None) -> Room:
    """Room for the longest known answer and half more, at least 256 tokens, or for `most`.

    Where the context is short, examples may take what is more than the longest known answer, or than half of the
    context: one long answer is not to take the examples from every row. The longest in characters stand for the longest
    in tokens; the spare covers the difference.
    """
    longest = max((count(text) for text in _longest(references)), default=0)
    wanted = most or max(ROOM_TOKENS, math.ceil(longest * SPARE_SHARE))
    return Room(context, wanted, min(longest + END_TOKENS, context // 2, wanted), count)


# Counting the tokens of every answer of a large dataset takes minutes.
LONGEST = 50


def _longest(texts: Iterable[str]) -> set[str]:
    """The longest in characters, each once, of texts that stream."""
    found: set[str] = set()
    least = -1
    for text in texts:
        if len(text) > least:
            found.add(text)
        if len(found) > LONGEST:
            found.remove(min(found, key=len))
            least = min(map(len, found))
    return found


def measure_with(tokenizer: Any) -> Measure:
    """The length of a prompt in tokens, by the model's own chat template."""

    def measure(prompt: Prompt) -> int:
        plain = isinstance(prompt.prompt, str)
        try:
            text = rendered(tokenizer, prompt)
        except jinja2.TemplateError as error:
            raise StageError(
                Outcome.CONFIG_INVALID, f"The model's chat template refuses the prompt of a contender: {error}"
            ) from error
        return len(tokenizer(text, add_special_tokens=plain)["input_ids"])

    return measure


def tokens_with(tokenizer: Any, prompt: Prompt, answer: Question) -> int:
    """How many tokens a prompt has with this answer behind it, the end of the turn included."""
    text = rendered(tokenizer, prompt, answer.reference, answer.calls)
    return len(tokenizer(text, add_special_tokens=isinstance(prompt.prompt, str))["input_ids"])


def rendered(tokenizer: Any, prompt: Prompt, answer: str | None = None, message: Message | None = None) -> str:
    """The text that the model reads: the prompt, and behind it its answer where one is given, as text or `message`."""
    if isinstance(prompt.prompt, str):
        return prompt.prompt if answer is None else prompt.prompt + answer + (tokenizer.eos_token or "")
    said = message or {"role": "assistant", "content": answer}
    turns = list(prompt.prompt) + ([said] if answer is not None else [])
    text: str = tokenizer.apply_chat_template(
        turns,
        tools=list(prompt.tools) or None,
        add_generation_prompt=answer is None,
        tokenize=False,
        **prompt.extra.get(TEMPLATE_KWARGS, {}),
    )
    return text
