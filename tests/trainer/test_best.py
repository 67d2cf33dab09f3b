"""Where validation got worse, the artifact is what did best in it; what else was asked for lies beside it."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_trainer.contract.config import AdapterConfig, AdapterType
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data.digests import digest
from finetune_trainer.data.tokens import IGNORED
from finetune_trainer.stages.train import train
from finetune_trainer.training import follow
from finetune_trainer.training.build import Beside
from peft import PeftModel
from test_resume import metrics, weights
from trainings import LORA, Case, MakeCase, Recorder, chat
from transformers import AutoModelForCausalLM, AutoTokenizer

# Rows of which the form can be learned from the others, and the answers can't: the loss falls, and rises again.
WRONG = [chat("sky", "white"), chat("snow", "green")]
EVERY_WEIGHT = AdapterConfig(type=AdapterType.NONE)
# Each of its steps takes random numbers, so that it shows whether a validation that is made up for has taken some.
DROPPING = AdapterConfig(rank=8, dropout=0.2)
# Validated at each of the four quarters.
STEPS, QUARTER = 24, 6


def overfitting(make_case: MakeCase, name: str = "colours", adapter: AdapterConfig = LORA) -> Case:
    rate = 1e-3 if adapter.type == AdapterType.NONE else 5e-3
    return make_case(name, validation=WRONG, adapter=adapter, total_steps=STEPS, learning_rate=rate)


def loss_of(weights: Path, base: Path, adapter: AdapterConfig) -> float:
    """The validation loss of what lies in a directory, by the libraries alone."""
    tokenizer = AutoTokenizer.from_pretrained(weights)
    model: Any = AutoModelForCausalLM.from_pretrained(
        weights if adapter.type == AdapterType.NONE else base, dtype=torch.float32
    )
    if adapter.type != AdapterType.NONE:
        model = PeftModel.from_pretrained(model, weights)
    total, count = 0.0, 0
    for row in WRONG:
        whole = tokenizer.apply_chat_template(row["messages"], return_tensors="pt")["input_ids"]
        asked = tokenizer.apply_chat_template(row["messages"][:-1], add_generation_prompt=True)["input_ids"]
        labels = whole.clone()
        labels[:, : len(asked)] = IGNORED
        learned = int((labels != IGNORED).sum())
        with torch.no_grad():
            total += float(model(input_ids=whole, labels=labels).loss) * learned
        count += learned
    return total / count


def validations(case: Case) -> dict[int, float]:
    return {int(row["step"]): row["validationLoss"] for row in metrics(case) if "validationLoss" in row}


@pytest.mark.parametrize("adapter", [LORA, EVERY_WEIGHT], ids=["lora", "full"])
def test_the_artifact_is_what_validated_best_and_the_result_says_so(
    make_case: MakeCase, recorder: Recorder, base_model: Path, adapter: AdapterConfig
) -> None:
    case = overfitting(make_case, adapter=adapter)

    result = train(case.config, case.workspace, recorder, Beside(keep=2))

    found = validations(case)
    best, second = sorted(found, key=found.__getitem__)[:2]
    assert [checkpoint.step for checkpoint in result.checkpoints] == [best, second]
    assert best < STEPS, "the last one is the best: this case shows nothing"
    assert loss_of(case.workspace.artifact, base_model, adapter) == pytest.approx(found[best], rel=0.03)
    assert loss_of(case.workspace.checkpoint(second), base_model, adapter) == pytest.approx(found[second], rel=0.03)
    assert found[STEPS] > 1.1 * found[best]
    assert result.validation_loss == found[STEPS]
    assert (
        f"weights of step {best} of {STEPS}, where the validation loss was lowest: {found[best]:.4f}" in result.chosen
    )
    assert f"{found[STEPS]:.4f} at the end" in result.chosen


def test_what_is_kept_beside_it_is_whole_and_has_a_digest_of_its_own(make_case: MakeCase, recorder: Recorder) -> None:
    case = overfitting(make_case)

    result = train(case.config, case.workspace, recorder, Beside(keep=3))

    artifact, *others = result.checkpoints
    assert artifact.digest == result.artifact.digest == digest(case.workspace.artifact)
    assert len({found.digest for found in result.checkpoints}) == 3
    for found in others:
        place = case.workspace.checkpoint(found.step)
        assert digest(place) == found.digest
        assert {path.name for path in place.iterdir()} == {path.name for path in case.workspace.artifact.iterdir()}
    assert sorted(path.name for path in case.workspace.kept.iterdir()) == sorted(str(found.step) for found in others)


def test_a_dora_adapter_is_merged_as_it_validated_best_and_so_is_each_that_is_kept(
    make_case: MakeCase, recorder: Recorder
) -> None:
    case = overfitting(make_case, adapter=AdapterConfig(type=AdapterType.DORA, rank=8))

    result = train(case.config, case.workspace, recorder, Beside(keep=3))

    found = validations(case)
    best, *others = [checkpoint.step for checkpoint in result.checkpoints]
    assert best < STEPS, "the last one is the best: this case shows nothing"
    places = {best: case.workspace.artifact, **{step: case.workspace.checkpoint(step) for step in others}}
    for step, place in places.items():
        assert loss_of(place / "merged", place / "merged", EVERY_WEIGHT) == pytest.approx(found[step], rel=0.05), step
    assert found[STEPS] > 1.1 * found[best]


def test_by_default_nothing_is_kept_beside_it(make_case: MakeCase, recorder: Recorder) -> None:
    case = overfitting(make_case)

    result = train(case.config, case.workspace, recorder)

    assert len(result.checkpoints) == 1
    assert not case.workspace.kept.exists()
    assert not case.workspace.checkpoints.exists()


def test_without_rows_for_validation_it_is_of_the_last_step(make_case: MakeCase, recorder: Recorder) -> None:
    case = make_case(total_steps=2)

    result = train(case.config, case.workspace, recorder, Beside(keep=3))

    assert (result.checkpoints, result.chosen) == ((), "")


class Killed(BaseException):
    """What a process does not outlive."""


class Interrupting(Recorder):
    """Ends the training at a step: asks it to stop, or kills it."""

    def __init__(self, step: int, kill: bool = False) -> None:
        super().__init__()
        self.step, self.kill = step, kill

    def update(self, **fields: Any) -> None:
        super().update(**fields)
        if fields.get("step") == self.step and "eta" in fields:
            if self.kill:
                raise Killed
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("step", "kill"),
    [(QUARTER + 1, True), (2 * QUARTER, False)],
    ids=["killed after a validation", "stopped before one"],
)
def test_an_interrupted_run_keeps_what_one_left_alone_keeps(
    make_case: MakeCase, monkeypatch: pytest.MonkeyPatch, step: int, kill: bool
) -> None:
    whole, interrupted = (overfitting(make_case, name, DROPPING) for name in ("whole", "interrupted"))
    expected = train(whole.config, whole.workspace, Recorder(), Beside(keep=2))
    # A checkpoint after each step.
    monkeypatch.setattr(follow, "SAVE_SECONDS", 0)
    monkeypatch.setattr(follow, "SAVE_SHARE", float("inf"))

    with pytest.raises((Killed, StageError)):
        train(interrupted.config, interrupted.workspace, Interrupting(step, kill), Beside(keep=2))
    again = Recorder()
    result = train(interrupted.config, interrupted.workspace, again, Beside(keep=2))

    assert again.values("step")[0] == (step - 1 if kill else step)
    assert weights(interrupted) == weights(whole)
    assert metrics(interrupted) == metrics(whole)
    assert result.checkpoints == expected.checkpoints


def test_the_last_step_is_validated_though_training_is_asked_to_stop_there(make_case: MakeCase) -> None:
    """Else an earlier one would be the best, for no other reason."""
    case = overfitting(make_case)

    with pytest.raises(StageError) as raised:
        train(case.config, case.workspace, Interrupting(STEPS))

    assert raised.value.outcome == Outcome.INTERRUPTED
    assert not case.workspace.artifact.exists()
