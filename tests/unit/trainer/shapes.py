"""Chat templates in the shapes that public models have, written for these tests, and a tokenizer for them.

« and » stand where a template that marks its answers has {% generation %} and {% endgeneration %}.
"""

from functools import cache

from finetune_trainer.data.base import Base, ModelFigures
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

OURS = "{% for m in messages %}{% if m.role == 'assistant' %}"
CHATML = (
    OURS + "<|im_start|>assistant{{ '\n' }}«{{ m.content }}<|im_end|>{{ '\n' }}»{% else %}"
    "<|im_start|>{{ m.role }}{{ '\n' + m.content }}<|im_end|>{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{{ '\n' }}{% endif %}"
)
WITH_DEFAULT = (
    "{% if messages[0].role != 'system' %}<|im_start|>system{{ '\nYou are a helpful assistant.' }}<|im_end|>{{ '\n' }}"
    "{% endif %}"
)
CALLS = (
    '{% for call in m.tool_calls or [] %}<tool_call>{{ \'\n{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{{ call.function.arguments | tojson }}{{ '}\n' }}</tool_call>{% endfor %}"
)
THOUGHT = "{% if loop.last %}<think>{{ '\n\n' }}</think>{{ '\n\n' }}{% endif %}"
SHAPES = {
    "Llama 3": (
        "{{ bos_token }}" + OURS + "<|start_header_id|>assistant<|end_header_id|>{{ '\n\n' }}"
        "«{{ m.content | trim }}<|eot_id|>»{% else %}<|start_header_id|>{{ m.role }}<|end_header_id|>"
        "{{ '\n\n' }}{{ m.content | trim }}<|eot_id|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>{{ '\n\n' }}{% endif %}"
    ),
    "Qwen 2.5": WITH_DEFAULT + CHATML.replace("«{{ m.content }}", "«{{ m.content }}" + CALLS),
    "Qwen 3": CHATML.replace("«", "«" + THOUGHT),
    "Mistral": (
        "{{ bos_token }}" + OURS + "«{{ ' ' + m.content }}{{ eos_token }}»{% elif m.role == 'user' %}"
        "[INST]{{ ' ' + m.content }}[/INST]{% else %}{{ raise_exception('no such role') }}{% endif %}{% endfor %}"
    ),
    "Gemma": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}" + OURS + "<start_of_turn>model{{ '\n' }}«{{ m.content | trim }}<end_of_turn>{{ '\n' }}»{% else %}"
        "<start_of_turn>user{{ '\n' }}{{ m.content | trim }}<end_of_turn>{{ '\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model{{ '\n' }}{% endif %}"
    ),
    "Phi": (
        OURS + "<|assistant|>{{ '\n' }}«{{ m.content }}<|end|>{{ '\n' }}"
        "{% if loop.last and not add_generation_prompt %}{{ eos_token }}{% endif %}»{% else %}"
        "<|{{ m.role }}|>{{ '\n' + m.content }}<|end|>{{ '\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{{ '\n' }}{% endif %}"
    ),
    "SmolLM2": WITH_DEFAULT + CHATML,
    "ChatML": CHATML,
}
# They refuse a system message.
WITHOUT_SYSTEM = {"Mistral", "Gemma"}
# They change an answer when others follow it.
CHANGING = {"Qwen 3"}
EOS = "<|endoftext|>"
SPECIAL = (
    *("<s>", EOS, "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("[INST]", "[/INST]", "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
)
CORPUS = [
    "the quick brown fox says: the answer is four, and the other answer is five.\n\nThe end.\n",
    "system user assistant model You are a helpful assistant. <think>\n\n</think>\n\n  two  spaces\n\n\n",
]


@cache
def bytes_tokenizer() -> Tokenizer:
    """Byte-level BPE, as most models have it, with merges that cross spaces and newlines."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS * 20,
        trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, special_tokens=["<unk>"], show_progress=False),
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer


def base(template: str | None) -> Base:
    """A base model with a template, whose « and » are taken out."""
    return Base(
        ModelFigures(1, 1, 1, 1, 1, 1, 1, 1),
        tokenizer(template.translate({ord("«"): "", ord("»"): ""}) if template else None),
    )


def marked(shape: str) -> PreTrainedTokenizerFast:
    """A tokenizer whose template marks its answers."""
    template = SHAPES[shape].replace("«", "{% generation %}").replace("»", "{% endgeneration %}")
    return tokenizer(template)


def tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=bytes_tokenizer(), bos_token="<s>", eos_token=EOS, chat_template=template
    )
