"""What can be wrong with one row: each fault a phrase that goes behind the row's place.

Called by `examples` with a row in the format's own column names. Pure.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from finetune_trainer.contract.config import Format
from finetune_trainer.data import preference
from finetune_trainer.data.line import kind
from finetune_trainer.data.preference import ANSWERS

Row = dict[str, Any]
PREFERENCES = (Format.PREFERENCE, Format.OPENAI_PREFERENCE, Format.UNPAIRED_PREFERENCE)
# What the user calls values, with the values; and prompt, chosen, rejected and tools.
Named = list[tuple[str, Any]]
Names = tuple[str, str, str, str]
ROLES = ("system", "user", "assistant", "tool", "developer")
NO_TEMPLATE = (
    "the model's tokenizer has no chat template: choose an instruction-tuned model, or write the rows as strings, "
    "prompt and completion (or prompt, chosen and rejected)"
)
# Keys that change what is learned, and that nothing here acts on.
REFUSED = {"function_call": "use tool_calls"}
# Enough of a wrong value to find it by.
QUOTED = 60


def faults(row: Row, format: Format, columns: Mapping[str, str], chat: bool) -> Iterator[str]:
    """Every fault of a row. `columns`: our names to the user's, which phrases use; `chat`: messages are possible."""

    def name(ours: str) -> str:
        return columns.get(ours, ours)

    if format in (Format.CHAT, Format.SHAREGPT):
        yield from _chat(row, name("messages" if format == Format.CHAT else "conversations"), name("tools"))
    elif format in PREFERENCES:
        yield from _preferences(row, format, name, chat)
    elif format == Format.TEXT:
        yield from _string(row.get("text"), name("text"))
    elif format == Format.INSTRUCTION:
        yield from _string(row.get("instruction"), name("instruction"))
        yield from _string(row.get("output"), name("output"))
        if not isinstance(given := row.get("input", ""), str):
            yield f"{name('input')} is {kind(given)}, where a string is expected"
    else:
        yield from _prompt_completion(row, name("prompt"), name("completion"), chat)


def _string(value: Any, name: str) -> Iterator[str]:
    if value is None:
        yield f"has no {name}"
    elif not isinstance(value, str):
        yield f"{name} is {kind(value)}, where a string is expected"
    elif not value.strip():
        yield f"{name} is empty"


def _prompt_completion(row: Row, prompt: str, completion: str, chat: bool) -> Iterator[str]:
    asked, answered = row.get("prompt"), row.get("completion")
    if isinstance(asked, list) != isinstance(answered, list) and None not in (asked, answered):
        yield f"{prompt} is {kind(asked)} and {completion} is {kind(answered)}: both are strings, or both messages"
    elif not isinstance(asked, list):
        yield from _string(asked, prompt)
        yield from _string(answered, completion)
    elif not chat:
        yield f"{prompt} is a list of messages, and {NO_TEMPLATE}"
    else:
        yield from _messages(asked, prompt, f"{prompt}'s message")
        yield from _messages(answered, completion, f"{completion}'s message")
        if not _last_is_answer(answered):
            yield f"{completion} does not end with a message of the assistant"


def _preferences(row: Row, format: Format, name: Callable[[str], str], chat: bool) -> Iterator[str]:
    if format == Format.PREFERENCE:
        yield from _preference(row, (name("prompt"), name("chosen"), name("rejected"), name("tools")), chat)
    elif format == Format.OPENAI_PREFERENCE:
        asked = name("input")
        names = (f"{asked}.messages", name("preferred_output"), name("non_preferred_output"), f"{asked}.tools")
        yield from _openai_preference(row, names, chat)
    else:
        yield from _prompt_completion(row, name("prompt"), name("completion"), chat)
        yield from _label(row, name("label"), name("tools"))


def _label(row: Row, label: str, tools: str) -> Iterator[str]:
    if (value := row.get("label")) is None:
        yield f"has no {label}"
    elif not isinstance(value, bool) and value not in (0, 1):
        yield f"{label} is {_quoted(value)}; allowed are true, for a good completion, and false"
    if "tools" in row and not _are_tools(row["tools"]):
        yield f"{tools} is no list of tools' JSON schemas"


def _openai_preference(row: Row, names: Names, chat: bool) -> Iterator[str]:
    if "prompt" not in row:
        yield f"has no {names[0]}"
    elif not isinstance(row["prompt"], list):
        yield f"{names[0]} is {kind(row['prompt'])}, where a list of messages is expected"
    else:
        yield from _preference(row, names, chat)


def _preference(row: Row, names: Names, chat: bool) -> Iterator[str]:
    """`names`: the user's, of the prompt, the two answers, and the tools."""
    prompt, *answers, tools = names
    given = [(name, row.get(ours)) for name, ours in zip(answers, ANSWERS, strict=True)]
    asked = [] if preference.whole(row) else [(prompt, row.get("prompt"))]
    if missing := [name for name, value in given if value is None]:
        yield from (f"has no {name}" for name in missing)
    elif len({isinstance(value, list) for _, value in (*asked, *given)}) > 1:
        kinds = [f"{name} is {kind(value)}" for name, value in (*asked, *given)]
        yield f"{', '.join(kinds[:-1])} and {kinds[-1]}: all are strings, or all are lists of messages"
    elif not isinstance(given[0][1], list):
        for name, value in (*asked, *given):
            yield from _string(value, name)
    elif not chat:
        yield f"{answers[0]} is a list of messages, and {NO_TEMPLATE}"
    else:
        yield from _conversations(asked, given)
    if "tools" in row and not _are_tools(row["tools"]):
        yield f"{tools} is no list of tools' JSON schemas"
    if not asked and _comparable(row) and not _asks(preference.parted(row)[0]):
        yield (
            f"{answers[0]} and {answers[1]} begin with nothing in common that is asked, and there is no {prompt}: add "
            f"a column {prompt}"
        )


def _conversations(asked: Named, given: Named) -> Iterator[str]:
    for name, value in (*asked, *given):
        yield from _messages(value, name, f"{name}'s message")
    for name, value in given:
        if value and not _last_is_answer(value):
            yield f"{name} does not end with a message of the assistant"


def _comparable(row: Row) -> bool:
    return all(isinstance(row.get(name), str | list) and bool(row[name]) for name in ANSWERS) and (
        type(row["chosen"]) is type(row["rejected"])
    )


def _asks(prompt: Any) -> bool:
    return bool(prompt.strip() if isinstance(prompt, str) else prompt)


def _chat(row: Row, messages: str, tools: str) -> Iterator[str]:
    chat = row.get("messages")
    yield from _messages(chat, messages, "message")
    if isinstance(chat, list) and chat and not _last_is_answer(chat):
        roles = [message.get("role") for message in chat if isinstance(message, dict)]
        if "assistant" in roles:
            yield "does not end with a message of the assistant"
        else:
            yield "has no message of the assistant, so there is nothing to learn"
    if "tools" in row and not _are_tools(row["tools"]):
        yield f"{tools} is no list of tools' JSON schemas"


def _messages(value: Any, name: str, each: str) -> Iterator[str]:
    if value is None:
        yield f"has no {name}"
    elif not isinstance(value, list):
        yield f"{name} is {kind(value)}, where a list of messages is expected"
    elif not value:
        yield f"{name} is empty"
    else:
        for number, message in enumerate(value, 1):
            for fault in _message(message):
                yield f"{each} {number} {fault}"


def _message(message: Any) -> Iterator[str]:
    if not isinstance(message, dict):
        yield f"is {kind(message)}, where an object with role and content is expected"
        return
    role = message.get("role")
    if role is None:
        hint = " (ShareGPT's from and value are read with dataset.format sharegpt)" if "from" in message else ""
        yield f"has no role{hint}; allowed are {', '.join(ROLES)}"
    elif role not in ROLES:
        yield f"has the role {_quoted(role)}; allowed are {', '.join(ROLES)}"
    for key, advice in REFUSED.items():
        if message.get(key) is not None:
            yield f"has the key {key}, which is not supported: {advice}"
    yield from _weight(message)
    calls = message.get("tool_calls")
    if calls is not None:
        yield from _calls(calls)
    content = message.get("content")
    # A message that calls tools need not say anything.
    if not (calls and content in (None, "")):
        yield from _content(content)


def _content(content: Any) -> Iterator[str]:
    """A string: lists of texts have become one by now."""
    if not (isinstance(content, list) and content and all(isinstance(part, dict) for part in content)):
        yield from _string(content, "content")
        return
    for number, part in enumerate(content, 1):
        if part.get("type") != "text":
            yield (
                f"content's part {number} is of type {_quoted(part.get('type'))}, and only text can be learned: remove "
                "the part, or the row"
            )
        elif not isinstance(part.get("text"), str):
            yield f"content's part {number} has no text"


def _weight(message: dict[str, Any]) -> Iterator[str]:
    """OpenAI's: which of the assistant's messages are learned."""
    weight = message.get("weight")
    if weight is None:
        return
    if isinstance(weight, bool) or weight not in (0, 1):
        yield f"has the weight {_quoted(weight)}; allowed are 0, which is not learned, and 1"
    elif message.get("role") != "assistant":
        yield "has a weight, which only messages of the assistant have: remove it"


def _calls(calls: Any) -> Iterator[str]:
    if not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
        yield "has tool_calls that are no list of objects"
        return
    for number, call in enumerate(calls, 1):
        function = call.get("function", call)
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            yield f"has tool_calls of which number {number} names no function"
        elif not _are_arguments(function.get("arguments")):
            yield f"calls {function['name']} with arguments that are no JSON object"


def _are_arguments(arguments: Any) -> bool:
    """Arguments are an object, or the JSON of one."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            return False
    return arguments is None or isinstance(arguments, dict)


def _quoted(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= QUOTED else f"{text[:QUOTED]}…"


def _last_is_answer(messages: Any) -> bool:
    return bool(messages) and isinstance(messages[-1], dict) and messages[-1].get("role") == "assistant"


def _are_tools(tools: Any) -> bool:
    """Tools are objects, or the JSON of them."""
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except ValueError:
            return False
    return isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)
