"""A run that is killed, or asked to stop, and started again ends as one that was left alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from finetune_trainer.contract.config import AdapterConfig, AdapterType
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.stages import complete
from finetune_trainer.stages.train import train
from finetune_trainer.training import machine
from several import codes, meeting
from trainings import CHATS, LORA, STEPS, Case, MakeCase, Recorder, chat

MIDWAY = 8
EVERYTHING = AdapterConfig(type=AdapterType.NONE)


def run_until(case: Case, number: signal.Signals, step: int) -> subprocess.CompletedProcess[str]:
    """Train in another process that gets the signal at the end of `step`."""
    program = Path(__file__).with_name("interrupted.py")
    arguments = [str(case.config_file), str(case.workspace.root), str(int(number)), str(step)]
    return subprocess.run([sys.executable, str(program), *arguments], capture_output=True, text=True, check=False)


def two_workers_until(case: Case, number: signal.Signals, step: int) -> list[int]:
    """Train in two processes of which one gets the signal at the end of `step`; their exit codes."""
    program = Path(__file__).with_name("interrupted.py")
    arguments = [str(case.config_file), str(case.workspace.root), str(int(number)), str(step)]
    host, port = meeting().split(":")
    together = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": host, "MASTER_PORT": port}
    workers = [
        subprocess.Popen(
            [sys.executable, str(program), *arguments],
            env={**os.environ, **together, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    return codes(workers)


def weights(case: Case) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in case.workspace.artifact.glob("*.safetensors")}


def metrics(case: Case) -> list[dict[str, float]]:
    return [json.loads(line) for line in (case.workspace.artifact / "metrics.jsonl").read_text().splitlines()]


def killed_ends_as(whole: Case, killed: Case, recorder: Recorder) -> None:
    """A run that is killed and goes on ends with the weights and metrics of one that is left alone, which is heard."""
    ended = run_until(killed, signal.SIGKILL, MIDWAY)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    train(whole.config, whole.workspace, recorder)
    train(killed.config, killed.workspace, Recorder())
    assert weights(killed) == weights(whole)
    assert metrics(killed) == metrics(whole)


def checkpoints(case: Case) -> list[str]:
    return sorted(path.name for path in case.workspace.checkpoints.glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("adapter", "compiled"), [(LORA, "no"), (EVERYTHING, "no"), (LORA, "yes")], ids=["lora", "full", "compiled"]
)
def test_a_killed_run_ends_with_the_same_weights_and_metrics(
    make_case: MakeCase, recorder: Recorder, adapter: AdapterConfig, compiled: str
) -> None:
    validation = [chat("sky", "blue")]
    whole = make_case("whole", adapter=adapter, validation=validation)
    killed = make_case("killed", adapter=adapter, validation=validation)
    for case in (whole, killed):
        case.workspace.compiled.write_text(compiled)

    ended = run_until(killed, signal.SIGKILL, MIDWAY)

    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert checkpoints(killed) == [f"checkpoint-{MIDWAY - 1}"]
    expected = train(whole.config, whole.workspace, Recorder())
    result = train(killed.config, killed.workspace, recorder)
    assert result.curve == expected.curve == recorder.values("curve")[-1]
    assert ("compiling the model" in recorder.values("activity")) == (compiled == "yes")
    assert recorder.values("step")[0] == MIDWAY - 1
    # What it tells first is what came before, and it goes on from there.
    curves = [[point.step for point in curve] for curve in recorder.values("curve")]
    assert curves[0] == list(range(1, MIDWAY))
    assert curves[-1] == list(range(1, STEPS + 1))
    assert weights(killed) == weights(whole)
    assert metrics(killed) == metrics(whole)
    assert [row["step"] for row in metrics(killed)] == list(range(1, STEPS + 1))


def test_asked_to_stop_it_saves_the_step_and_says_that_it_can_go_on(make_case: MakeCase, recorder: Recorder) -> None:
    whole, stopped = make_case("whole"), make_case("stopped")

    ended = run_until(stopped, signal.SIGTERM, MIDWAY)

    assert ended.returncode == Outcome.INTERRUPTED.exit.code, ended.stderr
    assert "goes on from the last checkpoint" in ended.stdout
    assert checkpoints(stopped) == [f"checkpoint-{MIDWAY}"]
    elapsed = json.loads((stopped.workspace.checkpoints / f"checkpoint-{MIDWAY}" / "elapsed.json").read_text())
    expected = train(whole.config, whole.workspace, Recorder())
    result = train(stopped.config, stopped.workspace, recorder)
    assert recorder.values("step")[0] == MIDWAY
    assert weights(stopped) == weights(whole)
    assert result.usage.trained_tokens == expected.usage.trained_tokens
    assert result.usage.seconds > elapsed["seconds"] > 0


def test_a_stop_that_only_one_worker_heard_of_ends_all_and_publishes_nothing(make_case: MakeCase) -> None:
    case = make_case()

    ended = two_workers_until(case, signal.SIGTERM, MIDWAY)

    assert ended == [Outcome.INTERRUPTED.exit.code] * 2
    assert checkpoints(case) == [f"checkpoint-{MIDWAY}"]
    assert not case.workspace.artifact.exists()


def test_a_half_written_checkpoint_is_removed(make_case: MakeCase, recorder: Recorder) -> None:
    case = make_case()
    half = case.workspace.checkpoints / "staging" / f"checkpoint-{MIDWAY}"
    half.mkdir(parents=True)
    (half / "adapter_model.safetensors").write_bytes(b"half")

    train(case.config, case.workspace, recorder)

    assert recorder.values("step")[0] == 0
    assert not half.exists()


def test_a_finished_stage_is_known_by_its_result(make_case: MakeCase, recorder: Recorder) -> None:
    case = make_case(rows=CHATS[:4], total_steps=1)
    assert complete.result("train", case.config, case.workspace) is None

    first = train(case.config, case.workspace, recorder)

    assert complete.result("train", case.config, case.workspace) == first


def test_an_artifact_of_another_revision_is_replaced(make_case: MakeCase, recorder: Recorder) -> None:
    case = make_case(rows=CHATS[:4], total_steps=1)
    train(case.config, case.workspace, Recorder())

    train(case.config.model_copy(update={"revision": "ffffffff"}), case.workspace, recorder)

    assert json.loads((case.workspace.artifact / "run_config.json").read_text())["revision"] == "ffffffff"


@pytest.mark.parametrize("precision", [machine.BF16, machine.FP32])
def test_a_training_that_goes_on_keeps_the_precision_that_it_began_with(tmp_path: Path, precision: str) -> None:
    """Both may be nearly as fast, so that a second measurement could come to the other one."""
    kept = tmp_path / "precision"
    kept.write_text(precision)
    assert machine.look(kept).bf16 == (precision == machine.BF16)
