"""What training learns, from which words, and how it ends when it can't."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_trainer.contract.config import AdapterConfig, AdapterType
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.stages.train import train
from finetune_trainer.training import machine
from peft import PeftModel
from safetensors import safe_open
from trainings import CHATML, CHATS, PAIRS, Case, MakeCase, Recorder, answers
from transformers import AutoModelForCausalLM, AutoTokenizer

ENOUGH = 80
SYSTEM = {"role": "system", "content": "you list the colour of a thing"}
GENERATING = (
    "{% for message in messages %}<|im_start|> {{ message['role'] }} "
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }} <|im_end|>{% endgeneration %} "
    "{% else %}{{ message['content'] }} <|im_end|> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)


def fault(case: Case, recorder: Recorder) -> StageError:
    with pytest.raises(StageError) as raised:
        train(case.config, case.workspace, recorder)
    return raised.value


@pytest.mark.parametrize("precision", [machine.FP32, machine.BF16])
def test_the_adapter_has_learned_the_answers_and_loads_with_peft(
    make_case: MakeCase, recorder: Recorder, base_model: Path
) -> None:
    case = make_case(total_steps=ENOUGH)

    train(case.config, case.workspace, recorder)

    tokenizer = AutoTokenizer.from_pretrained(case.workspace.artifact)
    base = AutoModelForCausalLM.from_pretrained(base_model)
    colours = [colour for _, colour in PAIRS]
    assert answers(base, tokenizer) != colours
    assert answers(PeftModel.from_pretrained(base, case.workspace.artifact), tokenizer) == colours


def test_full_fine_tuning_publishes_the_whole_model_as_it_was_stored(make_case: MakeCase, recorder: Recorder) -> None:
    case = make_case(adapter=AdapterConfig(type=AdapterType.NONE), total_steps=ENOUGH)

    train(case.config, case.workspace, recorder)

    with safe_open(case.workspace.artifact / "model.safetensors", framework="pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.bfloat16}  # noqa: SIM118
    model = AutoModelForCausalLM.from_pretrained(case.workspace.artifact)
    tokenizer = AutoTokenizer.from_pretrained(case.workspace.artifact)
    assert answers(model, tokenizer) == [colour for _, colour in PAIRS]


def test_a_dora_adapter_comes_with_the_model_that_it_makes(
    make_case: MakeCase, recorder: Recorder, base_model: Path
) -> None:
    case = make_case(adapter=AdapterConfig(type=AdapterType.DORA, rank=8), total_steps=ENOUGH)

    train(case.config, case.workspace, recorder)

    colours = [colour for _, colour in PAIRS]
    tokenizer = AutoTokenizer.from_pretrained(case.workspace.artifact / "merged")
    assert answers(AutoModelForCausalLM.from_pretrained(case.workspace.artifact / "merged"), tokenizer) == colours
    base = AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.float32)
    assert answers(PeftModel.from_pretrained(base, case.workspace.artifact), tokenizer) == colours


def test_a_single_step_learns_something(make_case: MakeCase, recorder: Recorder) -> None:
    case = make_case(total_steps=1)

    train(case.config, case.workspace, recorder)

    with safe_open(case.workspace.artifact / "adapter_model.safetensors", framework="pt") as weights:
        # The half of an adapter that is zero before anything is learned.
        learned = [weights.get_tensor(name) for name in weights.keys() if "lora_B" in name]  # noqa: SIM118
    assert learned
    assert all(bool(each.any()) for each in learned)


def loss_of(model: Any, tokens: list[int], learned: list[bool]) -> float:
    """The mean loss of a model on the tokens that are to be learned."""
    ids = torch.tensor([tokens])
    labels = torch.where(torch.tensor([learned]), ids, -100)
    with torch.no_grad():
        return float(model(input_ids=ids, labels=labels).loss)


def first_loss(case: Case, recorder: Recorder) -> float:
    """The loss of the first step: the adapter does nothing yet, so it is the base model's."""
    train(case.config, case.workspace, recorder)
    return float(recorder.values("loss")[0])


QUESTION = "<|im_start|> system you list the colour of a thing <|im_end|> <|im_start|> user what is sky ? <|im_end|>"
TURN = "<|im_start|> assistant"
ROWS = {
    "chat with one answer": (
        {
            "messages": [
                SYSTEM,
                {"role": "user", "content": "what is sky ?"},
                {"role": "assistant", "content": "blue"},
            ]
        },
        [(f"{QUESTION} {TURN}", False), ("blue <|im_end|>", True)],
    ),
    "prompt and completion": (
        {"prompt": "what is sky ?", "completion": " blue"},
        [("what is sky ?", False), ("blue <|im_end|>", True)],
    ),
    "text": ({"text": "sky is blue"}, [("sky is blue <|im_end|>", True)]),
}


@pytest.mark.parametrize("row", ROWS)
def test_the_loss_is_on_what_the_model_is_to_say(
    make_case: MakeCase, recorder: Recorder, base_model: Path, row: str
) -> None:
    given, parts = ROWS[row]
    case = make_case(rows=[given] * 4, total_steps=1)

    found = first_loss(case, recorder)

    assert found == pytest.approx(expected_loss(base_model, parts), rel=0.02)
    everything = [(text, True) for text, _ in parts]
    if everything != parts:
        assert found != pytest.approx(expected_loss(base_model, everything), rel=0.02)


@pytest.mark.parametrize("template", [GENERATING, CHATML], ids=["marked", "unmarked"])
def test_of_a_chat_with_several_answers_all_of_them_are_learned(
    make_case: MakeCase, recorder: Recorder, base_model: Path, tmp_path: Path, template: str
) -> None:
    base = with_template(base_model, tmp_path, template)
    row = {
        "messages": [
            SYSTEM,
            {"role": "user", "content": "what is sky ?"},
            {"role": "assistant", "content": "blue"},
            {"role": "user", "content": "what is snow ?"},
            {"role": "assistant", "content": "white"},
        ]
    }
    parts = [
        (f"{QUESTION} {TURN}", False),
        ("blue <|im_end|>", True),
        (f"<|im_start|> user what is snow ? <|im_end|> {TURN}", False),
        ("white <|im_end|>", True),
    ]

    assert first_loss(make_case(rows=[row] * 4, base=base, total_steps=1), recorder) == pytest.approx(
        expected_loss(base, parts), rel=0.02
    )


def expected_loss(base: Path, parts: list[tuple[str, bool]]) -> float:
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokens, learned = [], []
    for text, is_learned in parts:
        ids = tokenizer(text)["input_ids"]
        tokens += ids
        learned += [is_learned] * len(ids)
    return loss_of(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), tokens, learned)


def with_template(base: Path, directory: Path, template: str) -> Path:
    """The base model with another chat template."""
    copy = directory / "base"
    shutil.copytree(base, copy)
    tokenizer = AutoTokenizer.from_pretrained(copy)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(copy)
    return copy


def test_progress_is_reported_as_it_happens(make_case: MakeCase, recorder: Recorder) -> None:
    case = make_case(rows=CHATS, validation=CHATS[:2], total_steps=12)
    began = datetime.now(UTC)

    result = train(case.config, case.workspace, recorder)

    assert recorder.values("step") == list(range(13))
    assert recorder.values("epoch")[-1] == 2.0
    assert len(recorder.values("loss")) == 12
    assert recorder.values("loss")[-1] == result.loss
    assert recorder.values("validation_loss")[-1] == result.validation_loss
    assert all(rate > 0 for rate in recorder.values("tokens_per_second"))
    assert all(eta > began for eta in recorder.values("eta"))
    assert recorder.values("activity")[-1] == "writing the artifact"


def test_a_learning_rate_that_blows_up_the_weights_is_told(make_case: MakeCase, recorder: Recorder) -> None:
    case = make_case(adapter=AdapterConfig(type=AdapterType.NONE), learning_rate=1e30)

    found = fault(case, recorder)

    assert found.outcome == Outcome.DIVERGED
    assert "Lower training.learningRate (it was 1e+30)" in found.message
    assert not case.workspace.artifact.exists()


def test_target_modules_that_the_model_lacks_are_told(make_case: MakeCase, recorder: Recorder) -> None:
    case = make_case(adapter=AdapterConfig(target_modules=("query",)))

    found = fault(case, recorder)

    assert found.outcome == Outcome.CONFIG_INVALID
    assert "targetModules query" in found.message
    assert "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in found.message


def test_a_model_that_cannot_be_loaded_is_named_by_its_uri(
    make_case: MakeCase, recorder: Recorder, base_model: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(base_model, broken)
    case = make_case(base=broken)
    (broken / "tokenizer.json").unlink()

    found = fault(case, recorder)

    assert found.outcome == Outcome.CONFIG_INVALID
    assert found.message.startswith("hf://example/tiny can't be loaded")
