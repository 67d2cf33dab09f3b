"""Memory that runs out: once, passes become smaller and training goes on; twice, the user is told."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.results import TrainResult
from finetune_trainer.stages.train import train
from finetune_trainer.training import host
from finetune_trainer.training.memory import GIB
from trainings import CHATS, Case, MakeCase, Recorder

MIDWAY = 8


def run(program: str, case: Case, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Train in another process."""
    command = [Path(__file__).with_name(program), case.config_file, case.workspace.root, *arguments]
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)


def killed_for_memory(case: Case, step: int) -> None:
    """As by the kernel, at the end of a step, when hardly any memory is left."""
    ended = run("interrupted.py", case, int(signal.SIGKILL), step, "near")
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def tokens(case: Case) -> int:
    """How many pass at once."""
    found: int = json.loads(case.workspace.attempt.read_text())["tokens"]
    return found


def test_killed_for_its_memory_it_goes_on_with_half_the_tokens_and_says_so(
    make_case: MakeCase, recorder: Recorder
) -> None:
    case = make_case()
    killed_for_memory(case, MIDWAY)
    before = tokens(case)

    result: TrainResult = train(case.config, case.workspace, recorder)

    assert recorder.values("step")[0] == MIDWAY - 1
    assert recorder.values("notice") == [result.notice]
    assert result.notice.startswith("Training was killed while it held ")
    assert f", with up to {before} tokens at once; the next run goes on from the last" in result.notice
    assert f" with up to {before // 2} tokens at once." in result.notice


def test_killed_for_its_memory_again_it_ends_and_whoever_starts_it_once_more_gets_another_try(
    make_case: MakeCase, recorder: Recorder
) -> None:
    case = make_case()
    killed_for_memory(case, 2)
    begun = tokens(case)
    killed_for_memory(case, 4)
    assert tokens(case) == begun // 2

    with pytest.raises(StageError) as raised:
        train(case.config, case.workspace, Recorder())

    assert raised.value.outcome == Outcome.OUT_OF_MEMORY
    assert raised.value.message.count("Training was killed while it held") == 2
    assert "lower training.maxLength" in raised.value.message
    assert "raise training.resources.limits.memory." in raised.value.message
    assert train(case.config, case.workspace, recorder).steps == 12
    assert recorder.values("step")[0] == 3


class Greedy(Recorder):
    """It asks for more memory than there is when it hears of a step."""

    def update(self, **fields: Any) -> None:
        super().update(**fields)
        if fields.get("step") == MIDWAY and "eta" in fields:
            torch.empty(2**50, dtype=torch.uint8)


def test_where_the_system_gives_no_more_memory_the_next_run_takes_half_as_many_tokens(
    make_case: MakeCase, recorder: Recorder
) -> None:
    case = make_case()

    with pytest.raises(StageError) as raised:
        train(case.config, case.workspace, Greedy())

    assert raised.value.outcome == Outcome.SMALLER_PASSES
    assert raised.value.outcome.exit.retry
    assert "The pod or machine ran out of its " in raised.value.message
    assert train(case.config, case.workspace, recorder).notice == raised.value.message


def test_what_the_machine_has_no_room_for_is_refused_before_it_is_loaded(
    make_case: MakeCase, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune_trainer.training.host.memory", lambda: 2**29)
    case = make_case()

    with pytest.raises(StageError) as raised:
        train(case.config, case.workspace, recorder)

    assert raised.value.outcome == Outcome.OUT_OF_MEMORY
    assert "the pod or machine has 0.5 GiB" in raised.value.message
    assert recorder.values("activity") == []


@pytest.mark.parametrize(("gib", "expected"), [(1.4, True), (5, False)], ids=["little", "plenty"])
def test_freed_memory_is_given_back_at_once_where_there_is_little(
    make_case: MakeCase, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, gib: float, expected: bool
) -> None:
    """It costs a third of the time."""
    case = make_case(rows=CHATS[:4], total_steps=1)
    given: list[str] = []
    monkeypatch.setattr(host, "memory", lambda: int(gib * GIB))
    monkeypatch.setattr(host, "give_back_freed_memory", lambda: given.append("back"))

    train(case.config, case.workspace, recorder)

    assert bool(given) is expected
