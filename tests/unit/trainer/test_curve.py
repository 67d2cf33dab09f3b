"""What a train pod tells of its losses: a short curve while it trains, and one in its last word where that has room."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from finetune_trainer.contract.config import Workspace
from finetune_trainer.contract.curve import TOLD, Point, of, thinned, told
from finetune_trainer.contract.outcome import TERMINATION_BYTES, Termination
from finetune_trainer.contract.results import TrainResult
from finetune_trainer.stages import complete
from finetune_trainer.stages.frame import encode, ended
from finetune_trainer.training.schedule import LOG_ROWS, VALIDATIONS

RESULT: dict[str, Any] = {
    "artifact": {"digest": f"sha256:{'1' * 64}", "bytes": 19_537_922},
    "usage": {"trainedTokens": 547_032, "seconds": 312.345, "acceleratorSeconds": 312.345},
    "steps": 10_000,
}


def rows(steps: int, validated: int = 0) -> list[dict[str, float]]:
    """Of a training of so many logged steps, validated so many times."""
    chance = random.Random(7)
    made: list[dict[str, float]] = [{"step": step, "loss": chance.uniform(0.1, 3)} for step in range(1, steps + 1)]
    for row in made[steps // validated - 1 :: steps // validated] if validated else ():
        row["validationLoss"] = chance.uniform(0.1, 3)
    return made


def left(root: Path, result: dict[str, Any], metrics: list[dict[str, float]]) -> Workspace:
    """What train left."""
    workspace = Workspace(root)
    workspace.artifact.mkdir()
    workspace.trained.write_text(json.dumps(result))
    (workspace.artifact / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in metrics))
    return workspace


def test_the_losses_of_steps_are_read_and_nothing_else() -> None:
    found = [{"step": 1, "loss": 2.123456, "learningRate": 0.1}, {"step": 2, "tokens": 9}, {"step": 3, "loss": 1.0}]
    found[-1]["validationLoss"] = 1.5
    assert of(found) == [Point(1, 2.1235, None), Point(3, 1.0, 1.5)]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_no_point(loss: float) -> None:
    assert of([{"step": 1, "loss": 2.0}, {"step": 2, "loss": loss}]) == [Point(1, 2.0, None)]


@pytest.mark.parametrize("steps", [0, 1, TOLD, TOLD + 1, LOG_ROWS])
def test_a_curve_is_told_from_its_beginning_to_its_end_and_is_short(steps: int) -> None:
    whole = of(rows(steps))
    found = told(rows(steps))
    assert [*found[:1], *found[-1:]] == [*whole[:1], *whole[-1:]]
    assert set(found) <= set(whole)
    assert min(steps, TOLD // 2) <= len(found) <= TOLD + 1


def test_what_was_validated_stays() -> None:
    points = of(rows(LOG_ROWS, validated=VALIDATIONS))
    found = thinned(points, 10)
    assert sum(point.validation_loss is not None for point in found) == VALIDATIONS
    assert len(found) <= 10 + VALIDATIONS + 1


def test_the_last_word_has_it_and_what_reads_that_gets_it_back(tmp_path: Path) -> None:
    metrics = rows(LOG_ROWS, validated=VALIDATIONS)
    result = complete.trained(left(tmp_path, RESULT, metrics))
    assert result.curve == told(metrics)
    word = encode(ended(result))
    assert len(word) <= TERMINATION_BYTES
    assert TrainResult.model_validate(Termination.model_validate_json(word).result) == result


def test_where_the_last_word_has_no_room_for_it_the_result_goes_without(tmp_path: Path) -> None:
    noise = random.Random(7)
    notice = "".join(chr(noise.randrange(33, 127)) for _ in range(3400))
    result = complete.trained(left(tmp_path, RESULT | {"notice": notice}, rows(LOG_ROWS, validated=VALIDATIONS)))
    assert (result.notice, result.curve) == (notice, ())
    assert len(encode(ended(result))) <= TERMINATION_BYTES


def test_beside_the_artifact_lies_metrics_jsonl_and_its_mark_does_not_repeat_that(tmp_path: Path) -> None:
    result = TrainResult.model_validate(RESULT)
    assert "curve" not in json.loads(result.model_dump_json(by_alias=True))
    assert complete.trained(left(tmp_path, RESULT, [])) == result
