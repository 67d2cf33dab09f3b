"""The prepare stage as the operator runs it: run config in, workspace, result and sentences out."""

import hashlib
import itertools
import json
import pickle
import select
import shutil
from pathlib import Path
from typing import Any

import numpy
import psutil
import pytest
from finetune_trainer.contract.config import (
    DatasetConfig,
    EvaluationConfig,
    Format,
    ModelConfig,
    OnSensitive,
    RunConfig,
    Sharding,
    Source,
    TrainingConfig,
    Workspace,
)
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.published import ModelFormat
from finetune_trainer.contract.results import ModelInfo, PrepareResult
from finetune_trainer.data import base, batch, examples, seen
from finetune_trainer.data.batch import Reading
from finetune_trainer.data.line import Line
from finetune_trainer.data.tokens import CHANGED, IGNORED
from finetune_trainer.evaluation import testset
from finetune_trainer.server import Reporter
from finetune_trainer.stages import complete
from finetune_trainer.stages.prepare import prepare
from finetune_trainer.training import gguf, plans, targets
from finetune_trainer.training.activations import BFLOAT16
from finetune_trainer.training.hyperparameters import TrainCounts
from finetune_trainer.training.memory import USABLE, Device
from pyarrow import ipc
from safetensors.numpy import save_file
from tiny import CHATML, CONTEXT, PARAMETERS, write_model
from transformers import AutoTokenizer

QUESTIONS = [{"prompt": f"list two cups of flour {number}", "completion": "flour"} for number in range(20)]
CHATS = [
    {"messages": [{"role": "user", "content": f"list eggs {number}"}, {"role": "assistant", "content": "egg"}]}
    for number in range(20)
]
MAX_LENGTH = 64
COUNTED = TrainCounts(count=16, tokens=16 * 13, learned=16 * 2, longest=13)
TWO_ANSWERS = {"messages": [*CHATS[0]["messages"], *CHATS[1]["messages"]]}


class Case:
    """A run config over files of this test, and the workspace that it is prepared in."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root = root
        self.model = model
        self.workspace = Workspace(root / "workspace")
        self.workspace.root.mkdir()
        self.reporter = Reporter("prepare")

    def source(self, name: str, rows: list[Any]) -> dict[str, str]:
        path = self.root / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {"uri": f"pvc://data/{name}", "path": str(path)}

    def config(self, rows: list[Any], revision: str = "0a1b2c3d", training: Any = None, **dataset: Any) -> RunConfig:
        return RunConfig(
            name="recipes",
            revision=revision,
            model=ModelConfig(source=Source(uri="pvc://models/tiny", path=self.model)),
            dataset=DatasetConfig.model_validate({"train": self.source("train.jsonl", rows), **dataset}),
            training=TrainingConfig.model_validate(training or {}),
        )

    def prepare(self, config: RunConfig) -> PrepareResult:
        return prepare(config, self.workspace, self.reporter)

    def refused(self, config: RunConfig) -> StageError:
        with pytest.raises(StageError) as error:
            self.prepare(config)
        assert not self.workspace.prepared.exists()
        return error.value

    def rows(self, split: str) -> list[Any]:
        return [json.loads(line) for line in (self.workspace.data / f"{split}.jsonl").read_text().splitlines()]

    def learned(self, split: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = ipc.open_stream(self.workspace.learned(split)).read_all().to_pylist()
        return rows

    def words(self, row: dict[str, Any]) -> tuple[str, str]:
        """A row's text, and what of it is learned."""
        tokenizer = AutoTokenizer.from_pretrained(self.model)
        labels = [label for label in row["labels"] if label != IGNORED]
        return tokenizer.decode(row["input_ids"]), tokenizer.decode(labels)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path, write_model(tmp_path / "model"))


def test_the_result_tells_what_was_found_and_planned(case: Case) -> None:
    result = case.prepare(case.config(QUESTIONS, validation={"fraction": 0.1}, test={"fraction": 0.2}))
    assert result.revision == "0a1b2c3d"
    assert result.model == ModelInfo(parameters=PARAMETERS, context_length=CONTEXT)
    assert result.dataset.format == "prompt-completion"
    assert result.dataset.rows.model_dump() == {"train": 14, "validation": 2, "test": 4}
    # <|im_start|> user … <|im_end|> <|im_start|> assistant flour <|im_end|>
    assert (result.dataset.tokens, result.dataset.longest) == (14 * 13, 13)
    assert result.dataset.longer_than_max_length == 0
    assert result.plan.max_length == 64
    assert PrepareResult.model_validate_json(case.workspace.prepared.read_bytes()) == result


def test_of_a_sweep_each_trial_has_its_plan_and_the_one_that_needs_the_most_memory_is_told(case: Case) -> None:
    swept = {"parameters": {"adapter.rank": [64, 8], "learningRate": [1e-3, 3e-3], "batchSize": [4, 8]}}
    config = case.config(QUESTIONS, training={"sweep": swept, "epochs": 1}, validation={"fraction": 0.2})
    result = case.prepare(config)
    plans = [
        PrepareResult.model_validate_json(case.workspace.trial(number).prepared.read_bytes()).plan
        for number in range(1, 9)
    ]
    assert [plan.learning_rate for plan in plans] == [1e-3, 3e-3] * 4
    assert [plan.batch_size for plan in plans] == [4, 4, 8, 8] * 2
    assert [plan.total_steps for plan in plans] == [4, 4, 2, 2] * 2
    memory = [plan.estimated_memory_bytes for plan in plans]
    assert result.plan.estimated_memory_bytes == max(memory)
    assert plans[0].estimated_memory_bytes > plans[4].estimated_memory_bytes
    assert result.plan.estimated_trained_tokens == sum(plan.estimated_trained_tokens for plan in plans)
    assert result.plan.reasons["adapter.rank"].endswith("training.sweep tries 64, 8")


@pytest.mark.parametrize(
    ("training", "dataset", "said"),
    [
        ({}, {}, "takes the trial with the lowest loss on rows for validation, and there are none: set dataset.valid"),
        ({"batchSize": [4, 3]}, {"validation": {"fraction": 0.2}}, "training.batchSize 3 can't be shared evenly by 2"),
    ],
)
def test_a_sweep_that_could_not_end_is_refused(
    case: Case, training: dict[str, Any], dataset: dict[str, Any], said: str
) -> None:
    swept = {"sweep": {"parameters": {"learningRate": [1e-3], **training}}}
    with pytest.raises(StageError, match=said) as refused:
        prepare(
            case.config(QUESTIONS, training=swept, **dataset),
            case.workspace,
            case.reporter,
            device=Device(None, 2, BFLOAT16),
        )
    assert refused.value.outcome == Outcome.CONFIG_INVALID


def test_the_trial_that_can_not_fit_is_named(case: Case) -> None:
    swept = {"sweep": {"parameters": {"adapter.rank": [8, 512]}}}
    config = case.config(QUESTIONS, training=swept, validation={"fraction": 0.2})
    model = base.read(case.model, config.model).model
    room = plans.choose(config, COUNTED, model, Device(None, 1, BFLOAT16), Sharding.AUTO, validated=True)
    between = (room[0].estimated_memory_bytes + room[1].estimated_memory_bytes) / 2
    device = Device(round(between / USABLE), 1, BFLOAT16)
    with pytest.raises(StageError, match=r"The trial with adapter\.rank 512: ") as refused:
        prepare(config, case.workspace, case.reporter, device=device)
    assert refused.value.outcome == Outcome.OUT_OF_MEMORY


LIKED = [{"prompt": f"list two cups {number}", "chosen": "flour", "rejected": "two eggs"} for number in range(20)]


def test_of_preferences_both_answers_are_trained_and_the_chosen_one_is_asked(case: Case) -> None:
    result = case.prepare(case.config(LIKED, training={"method": "dpo"}, test={"fraction": 0.2}))
    assert result.dataset.format == "preference"
    first = case.learned("train")[0]
    asked = "<|im_start|> user list two cups <unk> <|im_end|> <|im_start|> assistant"
    assert case.words(first) == (f"{asked} flour <|im_end|>", "flour <|im_end|>")
    rejected = {name: first[f"other_{name}"] for name in ("input_ids", "labels")}
    assert case.words(rejected) == (f"{asked} two eggs <|im_end|>", "two eggs <|im_end|>")
    assert result.dataset.tokens == 16 * (11 + 12)
    shown = seen.read(case.workspace.learned("train"))
    assert (set(shown.lengths), shown.learned) == ({12}, 16 * (2 + 3))
    (row,) = shown.rows([0], base.read(case.model, case.config(LIKED).model))
    assert row.parts[-1] == ("flour <|im_end|>", True)
    assert row.rejected[-1] == ("two eggs <|im_end|>", True)
    assert result.plan.tokens_per_pass == result.plan.batch_size * 2 * result.dataset.longest
    assert {question.reference for question in testset.questions(case.workspace, "test")} == {"flour"}


def test_of_labelled_answers_good_ones_are_asked_and_each_has_anothers_answer_beside_it(case: Case) -> None:
    rows = [row | {"label": number % 4 != 0} for number, row in enumerate(QUESTIONS)]
    rows[1] |= {"completion": "three eggs"}
    test = {"source": case.source("test.jsonl", rows[:4])}
    result = case.prepare(case.config(rows, training={"method": "kto"}, test=test))
    assert result.dataset.format == "unpaired-preference"
    assert result.dataset.rows.model_dump() == {"train": 20, "validation": 0, "test": 3}
    found = {row["place"]: row for row in case.learned("train")}
    third = found["train.jsonl:3"]
    asked, _ = case.words(third)
    other = case.words({"input_ids": third["other_input_ids"], "labels": third["other_labels"]})
    assert other == (asked.replace("flour <|im_end|>", "three eggs <|im_end|>"), "three eggs <|im_end|>")
    assert [found[f"train.jsonl:{number}"]["desirable"] for number in range(1, 6)] == [False, True, True, True, False]
    assert len(case.rows("train")) == 15
    (row,) = seen.read(case.workspace.learned("train")).rows([0], base.read(case.model, case.config(rows).model))
    assert row.rejected == ()
    assert {question.reference for question in testset.questions(case.workspace, "test")} == {"flour", "three eggs"}


def test_labelled_answers_of_which_none_is_good_can_not_be_measured(case: Case) -> None:
    bad = [row | {"label": False} for row in QUESTIONS]
    config = case.config(bad, training={"method": "kto"}, test={"fraction": 0.2})
    with pytest.raises(StageError) as error:
        prepare(config, case.workspace, case.reporter, EvaluationConfig())
    assert error.value.message == (
        "No row of train has the label true, so there are no right answers to measure with: add some, or set "
        "evaluation.enabled to false."
    )
    assert case.prepare(config).dataset.rows.train == 16


def test_rows_for_another_method_are_refused_with_its_name(case: Case) -> None:
    found = case.refused(case.config(LIKED))
    assert found.outcome == Outcome.CONFIG_INVALID
    assert "pvc://data/train.jsonl has rows of format preference" in found.message
    assert "set training.method to dpo" in found.message
    assert "set training.method to sft" in case.refused(case.config(QUESTIONS, training={"method": "dpo"})).message


def test_pairs_without_a_difference_are_told_and_nothing_else_is_refused(case: Case) -> None:
    alike = [row | {"rejected": row["chosen"]} for row in LIKED]
    result = case.prepare(case.config([*LIKED, *alike[:2]], training={"method": "dpo"}))
    assert result.dataset.teaching_nothing == 2
    told = "2 rows of train are left out, whose chosen and rejected answers are the same up to maxLength (64 tokens)"
    assert f"{told} (train.jsonl:21, train.jsonl:22)." in result.warnings
    assert case.refused(case.config(alike, training={"method": "dpo"})).message == (
        "No row of pvc://data/train.jsonl has two answers that differ within training.maxLength (64 tokens), so there "
        "is no preference to learn: raise it, or give rows whose chosen and rejected answers differ."
    )


def test_a_batch_that_the_devices_cannot_share_is_refused_before_anything_is_fetched(case: Case) -> None:
    with pytest.raises(StageError) as error:
        prepare(
            case.config(QUESTIONS, training={"batchSize": 8}),
            case.workspace,
            case.reporter,
            device=Device(None, 3, BFLOAT16),
        )
    assert error.value.outcome == Outcome.CONFIG_INVALID
    assert error.value.message == "training.batchSize 8 can't be shared evenly by 3 devices; choose a multiple of 3."
    assert not case.workspace.data.exists()


def test_a_model_of_which_no_gguf_file_can_be_made_is_refused_before_its_rows_are_read(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the real one says of a real model, tests/trainer has.
    converter = tmp_path / "converter.py"
    monkeypatch.setattr(gguf, "CONVERTER", converter)
    config = case.config(QUESTIONS)
    said = {}
    for text in (None, "import sys\nsys.exit('Model Odd is not supported' if '--dry-run' in sys.argv else 0)"):
        if text:
            converter.write_text(text)
        with pytest.raises(StageError) as error:
            prepare(config, case.workspace, case.reporter, formats=[ModelFormat.GGUF])
        assert error.value.outcome == Outcome.CONFIG_INVALID
        assert not case.workspace.data.exists()
        said[text is None] = error.value.message
    assert said[True] == (
        f"output.formats has gguf, and llama.cpp's converter is not installed ({converter} does not exist): take the "
        "default trainer image, install it as docs/artifacts.md says, or remove gguf from output.formats."
    )
    assert said[False] == (
        "pvc://models/tiny can't be converted to GGUF: llama.cpp's converter ended with Model Odd is not supported. "
        "Choose another model, or remove gguf from output.formats."
    )
    converter.write_text("")
    assert prepare(config, case.workspace, case.reporter, formats=[ModelFormat.GGUF]).revision == config.revision


def test_the_plan_is_for_the_devices_that_will_train(case: Case) -> None:
    assert (
        prepare(case.config(QUESTIONS), case.workspace, case.reporter, device=Device(None, 3, BFLOAT16)).plan.batch_size
        == 6
    )


def test_who_reads_meanwhile_sees_no_half_of_what_was_found(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_text

    def halfway(path: Path, text: str, *rest: Any, **more: Any) -> int:
        write(path, text[: len(text) // 2], *rest, **more)
        assert not case.workspace.data_report.exists()
        return write(path, text, *rest, **more)

    config = case.config(QUESTIONS)
    monkeypatch.setattr(Path, "write_text", halfway)
    case.prepare(config)
    assert case.workspace.data_report.exists()


def test_what_is_odd_is_told_and_stops_nothing(case: Case) -> None:
    rows = [{**QUESTIONS[0], "answer": "x"}, *QUESTIONS, {**QUESTIONS[1], "completion": "two <|im_end|> eggs"}]
    result = case.prepare(case.config(rows))
    assert [warning.split(" of ")[0] for warning in result.warnings] == [
        "Format prompt-completion has no use for these columns",
        "1 row",
        "1 row",
        "1 row",
    ]
    report = json.loads(case.workspace.data_report.read_text())
    assert [finding["kind"] for finding in report["findings"]] == [
        "columns",
        "duplicates",
        "contradictions",
        "specialTokens",
    ]
    assert [finding["sentence"] for finding in report["findings"]] == list(result.warnings)


SECRET, ADDRESS = "AKIA" + "Q3K7ZT5WXN2RM4LB", "jane.doe@gmail.com"
PRIVATE = [
    *QUESTIONS,
    {"prompt": "list my key", "completion": SECRET},
    {"prompt": "list her address", "completion": f"{ADDRESS}, john@gmail.com"},
    {"prompt": "list his address", "completion": "john@gmail.com"},
]


class TestSecretsAndPersonalData:
    def test_they_are_told_by_kind_and_place_and_never_repeated(
        self, case: Case, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        result = case.prepare(case.config(PRIVATE))
        assert result.warnings == (
            "1 row of train.jsonl seems to hold AWS keys (train.jsonl:21).",
            "2 rows of train.jsonl seem to hold e-mail addresses (train.jsonl:22, train.jsonl:23).",
        )
        left = [result.model_dump_json(), case.workspace.data_report.read_text(), case.workspace.prepared.read_text()]
        assert not [text for text in (*left, caplog.text) for value in (SECRET, ADDRESS, "john@") if value in text]

    def test_they_are_refused_where_the_manifest_says_so(self, case: Case) -> None:
        with pytest.raises(StageError) as error:
            prepare(case.config(PRIVATE), case.workspace, case.reporter, on_sensitive=OnSensitive.FAIL)
        assert error.value.outcome == Outcome.DATA_INVALID
        assert error.value.message == (
            "1 row of train.jsonl seems to hold AWS keys (train.jsonl:21). 2 rows of train.jsonl seem to hold e-mail "
            "addresses (train.jsonl:22, train.jsonl:23). Remove or mask them, or, if the model may learn them, set "
            "dataset.onSensitive to warn or ignore."
        )
        assert not case.workspace.data.exists()

    def test_those_of_every_split_are_refused(self, case: Case) -> None:
        test = {"source": case.source("test.jsonl", PRIVATE[-1:])}
        with pytest.raises(StageError) as error:
            prepare(case.config(QUESTIONS, test=test), case.workspace, case.reporter, on_sensitive=OnSensitive.FAIL)
        assert error.value.message.startswith("1 row of test.jsonl seems to hold e-mail addresses (test.jsonl:1).")

    def test_nothing_is_said_where_the_manifest_ignores_them(self, case: Case) -> None:
        config = case.config(PRIVATE)
        assert prepare(config, case.workspace, case.reporter, on_sensitive=OnSensitive.IGNORE).warnings == ()

    def test_rows_are_looked_at_again_when_the_manifest_says_otherwise(self, case: Case) -> None:
        config = case.config(PRIVATE)
        result = case.prepare(config)
        assert complete.result("prepare", config, case.workspace) == result
        assert complete.result("prepare", config, case.workspace, OnSensitive.FAIL) is None
        assert complete.result("prepare", config, case.workspace, formats=[ModelFormat.GGUF]) is None


ANSWERED = [*QUESTIONS, {"prompt": "flour and rice", "completion": "rice"}]


class TestTheMeasurementToCome:
    def test_rows_of_test_that_train_has_are_told_before_anything_is_trained(self, case: Case) -> None:
        rows = [{"prompt": " List two CUPS of flour 3", "completion": "rice"}, {"prompt": "eggs", "completion": "egg"}]
        config = case.config(ANSWERED, test={"source": case.source("test.jsonl", rows)})
        told = prepare(config, case.workspace, case.reporter, EvaluationConfig()).warnings
        assert told == (
            "1 row of test stands in train too and is left out when the result is measured (test.jsonl:1).",
        )
        assert case.prepare(config).warnings == (), "and where nothing is measured, nothing of it"

    def test_rows_of_test_that_fit_no_context_are_told(self, case: Case) -> None:
        rows = [{"prompt": "list", "completion": "two eggs " * 200}, {"prompt": "eggs", "completion": "egg"}]
        config = case.config(ANSWERED, test={"source": case.source("test.jsonl", rows)})
        (told,) = prepare(config, case.workspace, case.reporter, EvaluationConfig()).warnings
        assert told.startswith("1 row of test needs 41")
        assert f"where the context has {CONTEXT}: not asked, it counts as answered wrong" in told


def test_several_files_are_read_as_one_and_faults_name_theirs(case: Case) -> None:
    for number, rows in enumerate((QUESTIONS[:9], QUESTIONS[9:])):
        case.source(f"part-{number}.jsonl", rows)
    config = case.config(QUESTIONS[:1])
    many = Source(uri="pvc://data/part-*.jsonl", path=case.root / "part-*.jsonl")
    config = config.model_copy(update={"dataset": config.dataset.model_copy(update={"train": many})})
    assert case.prepare(config).dataset.rows.train == 20
    case.source("part-2.jsonl", [{"prompt": "a"}])
    assert case.refused(config).message == ("pvc://data/part-*.jsonl has 1 fault:\npart-2.jsonl:1: has no completion")


def test_rows_lie_in_the_workspace_as_trl_takes_them(case: Case) -> None:
    case.prepare(case.config(QUESTIONS, system_prompt="list", validation={"fraction": 0.1}))
    assert {path.name for path in case.workspace.data.iterdir()} == {"train.arrow", "train.jsonl", "validation.arrow"}
    assert len(case.rows("train")) == len(QUESTIONS) - 2
    for row in case.rows("train"):
        assert [message["role"] for message in row["prompt"]] == ["system", "user"]
        assert row["completion"] == [{"role": "assistant", "content": "flour"}]


def test_many_rows_are_made_by_other_processes_as_they_are_here(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    config = case.config([*PRIVATE, QUESTIONS[3]], test={"fraction": 0.1})
    here = case.prepare(config)
    files = {path.name: path.read_bytes() for path in case.workspace.data.iterdir()}
    monkeypatch.setattr(batch, "HERE", 1)
    monkeypatch.setattr(batch, "BATCH", 2)
    assert case.prepare(config) == here
    assert {path.name: path.read_bytes() for path in case.workspace.data.iterdir()} == files
    assert case.refused(case.config([*QUESTIONS, {"prompt": "a"}, {"prompt": "b"}])).message == (
        "pvc://data/train.jsonl has 2 faults:\ntrain.jsonl:21: has no completion\ntrain.jsonl:22: has no completion"
    )


def test_a_process_that_is_killed_among_others_is_told(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "HERE", 0)
    config = case.config(QUESTIONS)
    model = base.read(case.model, config.model)
    reading = Reading(examples.shape_of(config.dataset, Format.PROMPT_COMPLETION, chat=True))
    lines = (Line(f"train.jsonl:{number}", QUESTIONS[0]) for number in itertools.count())
    made = batch.each(lines, reading, model, (case.model, config.model), case.workspace.spool)
    next(made)
    workers = [process for process in psutil.Process().children() if "popen_loky_posix" in " ".join(process.cmdline())]
    workers[0].kill()
    with pytest.raises(StageError) as error:
        for _ in made:
            pass
    assert error.value.outcome == Outcome.OUT_OF_MEMORY
    assert error.value.message == (
        "One of the processes that made tokens of the dataset was killed, which is done when memory is full: raise "
        "the memory in training.resources."
    )


def test_a_process_hands_on_its_batch_at_once_so_that_one_killed_leaves_no_half_to_wait_for(case: Case) -> None:
    config = case.config(QUESTIONS)
    reading = Reading(examples.shape_of(config.dataset, Format.PROMPT_COMPLETION, chat=True))
    lines = [Line(f"train.jsonl:{number}", QUESTIONS[0]) for number in range(batch.BATCH)]
    case.workspace.spool.mkdir()
    handed = batch._make(lines, reading, case.model, config.model, case.workspace.spool)
    assert len(pickle.dumps(handed)) < select.PIPE_BUF
    assert pickle.loads(handed.read_bytes()).rows == batch.BATCH


def test_what_is_needed_only_while_it_is_prepared_is_gone(case: Case) -> None:
    case.prepare(case.config(QUESTIONS))
    assert not case.workspace.spool.exists()


def test_the_same_config_makes_the_same_bytes(case: Case) -> None:
    config = case.config(CHATS, validation={"fraction": 0.2})
    first = case.prepare(config)
    files = {path.name: path.read_bytes() for path in case.workspace.data.iterdir()}
    shutil.rmtree(case.workspace.root)
    case.workspace.root.mkdir()
    assert case.prepare(config) == first
    assert {path.name: path.read_bytes() for path in case.workspace.data.iterdir()} == files


def test_the_digest_is_over_the_splits_names_and_bytes(case: Case) -> None:
    result = case.prepare(case.config(CHATS, test={"fraction": 0.2}))
    contents = {name: (case.workspace.data / f"{name}.jsonl").read_bytes() for name in ("test", "train")}
    told = "".join(f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in contents.items())
    assert result.dataset.digest == f"sha256:{hashlib.sha256(told.encode()).hexdigest()}"


def test_another_revision_is_prepared_anew_and_leaves_nothing_of_the_old(case: Case) -> None:
    case.prepare(case.config(CHATS, validation={"fraction": 0.2}))
    result = case.prepare(case.config(QUESTIONS, revision="99999999"))
    assert result.revision == "99999999"
    assert {path.name for path in case.workspace.data.iterdir()} == {"train.arrow", "train.jsonl"}
    assert len(case.rows("train")) == len(QUESTIONS)


def test_a_run_that_was_killed_before_the_mark_starts_over(case: Case) -> None:
    case.workspace.data.mkdir()
    (case.workspace.data / "train.jsonl").write_text('{"half')
    case.workspace.prepared.with_name("prepared.json.partial").write_text("{")
    case.prepare(case.config(CHATS))
    assert case.rows("train") == CHATS


def test_rows_longer_than_max_length_are_cut_and_told(case: Case) -> None:
    long = {"prompt": "two two", "completion": "two " * 90}
    result = case.prepare(case.config([*QUESTIONS, long, long], training={"maxLength": MAX_LENGTH}))
    assert result.dataset.rows.train == len(QUESTIONS) + 2
    assert result.dataset.longest == 98
    assert result.dataset.longer_than_max_length == 2
    assert result.warnings[-1] == (
        "2 rows of train are longer than maxLength (64 tokens) and cut (train.jsonl:21, train.jsonl:22)."
    )
    lengths = [len(row["input_ids"]) for row in case.learned("train")]
    assert (result.dataset.tokens, max(lengths)) == (sum(lengths), MAX_LENGTH)


def test_rows_that_teach_nothing_are_left_out_and_told(case: Case) -> None:
    asked, answered = CHATS[0]["messages"]
    silent = {"messages": [asked, answered | {"weight": 0}]}
    long = {"messages": [asked | {"content": "two " * 90}, answered]}
    rows = [silent, *CHATS, long, *[silent] * 3]
    result = case.prepare(case.config(rows, training={"maxLength": MAX_LENGTH, "epochs": 1, "batchSize": 1}))
    assert result.dataset.rows.train == len(CHATS) == result.plan.total_steps
    assert (result.dataset.longer_than_max_length, result.dataset.teaching_nothing) == (0, 5)
    assert result.warnings[-1] == (
        "5 rows of train are left out, with no answer left to learn (train.jsonl:1, train.jsonl:22, train.jsonl:23, …)."
    )
    assert [row["place"] for row in case.learned("train")] == [f"train.jsonl:{line}" for line in range(2, 22)]


def test_prompts_that_leave_no_room_are_refused(case: Case) -> None:
    error = case.refused(case.config(CHATS, training={"maxLength": 4}))
    assert (error.outcome, error.message) == (
        Outcome.DATA_INVALID,
        "In every row of pvc://data/train.jsonl the prompt alone fills training.maxLength (4 tokens), so there is "
        "nothing to learn: raise it or shorten the prompts.",
    )


def test_validation_rows_without_anything_to_learn_are_refused(case: Case) -> None:
    asked, answered = CHATS[0]["messages"]
    silent = {"source": case.source("val.jsonl", [{"messages": [asked, answered | {"weight": 0}]}])}
    error = case.refused(case.config(CHATS, validation=silent))
    assert (error.outcome, error.message) == (
        Outcome.DATA_INVALID,
        "In every row for validation all answers have the weight 0, so there is nothing to learn.",
    )


def test_splits_with_sources_of_their_own_are_checked_too(case: Case) -> None:
    given = {"source": case.source("val.jsonl", QUESTIONS[:3])}
    result = case.prepare(case.config(QUESTIONS, validation=given, test={"fraction": 0.1}))
    assert result.dataset.rows.model_dump() == {"train": 18, "validation": 3, "test": 2}
    bad = {"source": case.source("val.jsonl", [QUESTIONS[0], {"prompt": "list"}])}
    error = case.refused(case.config(QUESTIONS, "99999999", validation=bad))
    assert error.outcome == Outcome.DATA_INVALID
    assert error.message == "pvc://data/val.jsonl has 1 fault:\nval.jsonl:2: has no completion"


def test_a_bad_row_is_named_with_file_and_line(case: Case) -> None:
    bad = {"messages": [CHATS[0]["messages"][0], {"role": "asistant", "content": "egg"}]}
    error = case.refused(case.config([*CHATS[:16], bad, *CHATS[16:]]))
    assert error.outcome == Outcome.DATA_INVALID
    assert error.message.splitlines()[1] == (
        'train.jsonl:17: message 2 has the role "asistant"; allowed are system, user, assistant, tool, developer'
    )


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_dataset_is_refused(case: Case, content: str) -> None:
    config = case.config([])
    (case.root / "train.jsonl").write_text(content)
    error = case.refused(config)
    assert (error.outcome, error.message) == (Outcome.DATA_INVALID, "pvc://data/train.jsonl has no rows.")


def test_too_few_rows_for_a_split_is_refused(case: Case) -> None:
    error = case.refused(case.config(QUESTIONS[:1], test={"fraction": 0.5}))
    assert error.outcome == Outcome.DATA_INVALID
    assert error.message.startswith("dataset.test.fraction 0.5 can't be cut from the 1 row of pvc://data/train.jsonl: ")


@pytest.mark.parametrize("missing", ["model", "train.jsonl"])
def test_a_path_that_is_not_there_is_named(case: Case, missing: str) -> None:
    config = case.config(CHATS)
    (case.root / missing).rename(case.root / "elsewhere")
    error = case.refused(config)
    uri = "pvc://models/tiny" if missing == "model" else "pvc://data/train.jsonl"
    assert (error.outcome, error.message) == (
        Outcome.NOT_FOUND,
        f"{uri} does not exist: nothing lies at that path.",
    )


def test_a_directory_is_no_file_of_rows(case: Case) -> None:
    config = case.config(CHATS)
    (case.root / "train.jsonl").unlink()
    (case.root / "train.jsonl").mkdir()
    assert case.refused(config).message == (
        "pvc://data/train.jsonl is a directory: name the one file in it that is meant."
    )


def test_chats_need_a_model_with_a_chat_template(tmp_path: Path) -> None:
    case = Case(tmp_path, write_model(tmp_path / "plain", template=None))
    error = case.refused(case.config(CHATS))
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message.startswith(
        "pvc://data/train.jsonl holds chats, and the model's tokenizer has no chat template"
    )


def test_a_model_without_a_chat_template_learns_strings(tmp_path: Path) -> None:
    case = Case(tmp_path, write_model(tmp_path / "plain", template=None))
    result = case.prepare(case.config([{"prompt": "list two eggs ", "completion": "eggs"}] * 3))
    assert case.rows("train")[0] == {"prompt": "list two eggs ", "completion": "eggs"}
    # TRL ends the completion with the model's own mark.
    assert result.dataset.longest == len(["list", "two", "eggs", "eggs", "<|im_end|>"])


def test_every_answer_of_a_chat_is_learned_whether_its_template_marks_them_or_not(case: Case) -> None:
    case.prepare(case.config([TWO_ANSWERS]))
    text, learned = case.words(case.learned("train")[0])
    assert text.count("<|im_start|>") == 4
    assert learned == "egg <|im_end|> egg <|im_end|>"


def test_answers_that_change_when_others_follow_are_refused(tmp_path: Path) -> None:
    last = "{% if loop.last and message['role'] == 'assistant' %}and {% endif %}"
    thinking = CHATML.replace("{{ message['content'] }}", last + "{{ message['content'] }}")
    case = Case(tmp_path, write_model(tmp_path / "thinking", template=thinking))
    error = case.refused(case.config([*CHATS, TWO_ANSWERS]))
    assert error.outcome == Outcome.DATA_INVALID
    assert error.message.splitlines()[1] == f"train.jsonl:21: message 2 {CHANGED}"


def test_several_answers_in_rows_that_are_only_measured_are_fine(case: Case) -> None:
    test = {"source": case.source("test.jsonl", [TWO_ANSWERS])}
    assert case.prepare(case.config(CHATS, test=test)).dataset.rows.test == 1


def test_what_the_template_refuses_is_told_with_its_line(tmp_path: Path) -> None:
    strict = "{% if messages[0].role != 'user' %}{{ raise_exception('The first role must be user') }}{% endif %}"
    case = Case(tmp_path, write_model(tmp_path / "strict", template=strict))
    row = {"messages": [{"role": "system", "content": "list"}, *CHATS[0]["messages"]]}
    error = case.refused(case.config([*CHATS, row]))
    assert error.message.splitlines()[1] == (
        "train.jsonl:21: the model's chat template refuses it: The first role must be user"
    )


def unusable(case: Case) -> str:
    error = case.refused(case.config(CHATS))
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message.startswith("pvc://models/tiny can't be used as a base model: ")
    return error.message.removeprefix("pvc://models/tiny can't be used as a base model: ")


def test_a_model_without_a_tokenizer_is_refused(case: Case) -> None:
    for path in case.model.glob("*token*"):
        path.unlink()
    assert unusable(case).startswith("it has no tokenizer (none of tokenizer.json, ")


def test_a_tokenizer_that_knows_no_characters_is_refused(case: Case) -> None:
    (case.model / "tokenizer.json").rename(case.model / "vocab.json")
    (case.model / "tokenizer_config.json").write_text('{"tokenizer_class": "CanineTokenizer"}')
    assert unusable(case) == (
        "its tokenizer can't say which characters a token stands for; one with tokenizer.json can."
    )


def test_a_model_without_a_config_is_refused(case: Case) -> None:
    (case.model / "config.json").unlink()
    assert unusable(case) == "it has no config.json."


def test_an_adapter_is_no_base_model(case: Case) -> None:
    (case.model / "config.json").rename(case.model / "adapter_config.json")
    assert unusable(case) == "it has no config.json; it is an adapter, so name the model that it was trained on."


def test_tokens_that_the_model_has_no_embeddings_for_are_refused(case: Case) -> None:
    """As of a tokenizer that got tokens of its own, and a model that did not."""
    config = json.loads((case.model / "config.json").read_text())
    (case.model / "config.json").write_text(json.dumps(config | {"vocab_size": 8}))
    assert unusable(case) == (
        "its tokenizer writes the token egg (9), and its config.json has a vocab_size of 8; give it the tokenizer that "
        "it was trained with, or weights with embeddings for the tokens that were added."
    )


def with_targets(case: Case, *modules: str, kind: str = "lora") -> RunConfig:
    """A config over a model with a block of a linear layer and a norm, that adapts these modules."""
    block = {"self_attn.q_proj": (4, 4), "mlp.up_proj": (4, 4), "input_layernorm": (4,)}
    weights = {f"model.layers.0.{name}.weight": numpy.zeros(shape) for name, shape in block.items()}
    save_file({**weights, "lm_head.weight": numpy.zeros((8, 8))}, case.model / "model-00002-of-00002.safetensors")
    return case.config(CHATS, training={"adapter": {"type": kind, "targetModules": modules}})


@pytest.mark.parametrize("kind", ["lora", "qlora", "dora"])
@pytest.mark.parametrize("module", ["qproj", "lm_head", "embed_tokens", "input_layernorm", "model.layers.0.mlp.down"])
def test_modules_that_cannot_be_adapted_and_served_are_told_before_training(case: Case, module: str, kind: str) -> None:
    error = case.refused(with_targets(case, "q_proj", module, kind=kind))
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message == (
        f"training.adapter.targetModules has {module}, and adapters are trained and served of linear layers in the "
        "model's blocks alone: choose among q_proj, up_proj, or leave it out, which takes all of them."
    )


@pytest.mark.parametrize(
    ("head", "method", "module", "there"),
    [
        (True, "sft", "head", "embed_tokens, lm_head"),
        (True, "sft", "q_proj", "embed_tokens, lm_head"),
        (True, "sft", "input_layernorm", "embed_tokens, lm_head"),
        # It is the embeddings, and has no weights of its own.
        (False, "sft", "lm_head", "embed_tokens"),
        # It is not loaded.
        (True, "reward", "lm_head", "embed_tokens"),
    ],
)
def test_modules_that_can_not_be_trained_as_a_whole_are_told_before_training(
    case: Case, head: bool, method: str, module: str, there: str
) -> None:
    weights = {"model.layers.0.self_attn.q_proj.weight": numpy.zeros((4, 4))}
    output = {"lm_head.weight": numpy.zeros((128, 16))} if head else {}
    save_file(weights | output, case.model / "model-00002-of-00002.safetensors")
    adapter = {"modulesToSave": ["embed_tokens", module]}
    rows = JUDGED if method == "reward" else CHATS
    error = case.refused(case.config(rows, training={"method": method, "adapter": adapter}))
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message == (
        f"training.adapter.modulesToSave has {module}, and of this model what can be trained as a whole beside an "
        f"adapter is {there}: leave out what is not among that, or set training.adapter.type to none, which trains "
        "everything."
    )


def with_output_layer(case: Case, output: Any) -> RunConfig:
    """A config that trains both as a whole, over a model that says they are one, and has both."""
    config = json.loads((case.model / "config.json").read_text())
    (case.model / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    save_file({"lm_head.weight": output}, case.model / "model-00002-of-00002.safetensors")
    return case.config(CHATS, training={"adapter": {"modulesToSave": ["embed_tokens", "lm_head"]}})


def test_an_output_layer_that_is_stored_and_is_the_embeddings_is_not_trained_by_itself(case: Case) -> None:
    error = case.refused(with_output_layer(case, numpy.zeros((128, 16), numpy.float16)))
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message == (
        "training.adapter.modulesToSave has lm_head, and this model's embeddings are its output layer: name "
        "embed_tokens alone, which is both, where the model has it; or set training.adapter.type to none."
    )


def test_an_output_layer_that_differs_from_the_embeddings_is_one_of_its_own_whatever_the_config_says(
    case: Case,
) -> None:
    case.prepare(with_output_layer(case, numpy.ones((128, 16), numpy.float16)))
    assert case.workspace.prepared.exists()


def test_of_a_model_whose_embeddings_are_its_output_layer_by_another_name_none_is_trained_as_a_whole() -> None:
    assert targets.saved({"wte.weight": (128, 16), "wpe.weight": (64, 16), "h.0.attn.weight": (16, 16)}, True) == []


def test_modules_of_the_models_blocks_may_be_named_by_their_path(case: Case) -> None:
    case.prepare(with_targets(case, "model.layers.0.self_attn.q_proj", "up_proj"))
    assert case.workspace.prepared.exists()


JUDGED = [{"prompt": f"list eggs {number}", "chosen": " egg", "rejected": " flour"} for number in range(20)]


def test_a_model_that_can_have_no_head_is_no_reward_model_and_that_is_told_before_training(case: Case) -> None:
    case.prepare(case.config(JUDGED, training={"method": "reward"}))
    config = json.loads((case.model / "config.json").read_text())
    (case.model / "config.json").write_text(json.dumps(config | {"model_type": "granite"}))
    error = case.refused(case.config(JUDGED, training={"method": "reward"}))
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message == (
        "training.method reward puts a head in place of the model's output layer, and transformers has none for models "
        "of type granite, as pvc://models/tiny is: choose a base model of another type, such as llama or qwen3."
    )
    case.prepare(case.config(JUDGED, training={"method": "dpo"}))


def test_a_file_is_no_model(case: Case) -> None:
    shutil.rmtree(case.model)
    case.model.write_text("gguf")
    assert unusable(case) == "it is no directory, and a model is one."


def test_the_license_of_the_base_model_is_told_where_its_card_says_it(case: Case) -> None:
    assert case.prepare(case.config(QUESTIONS)).model.license is None
    (case.model / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    assert case.prepare(case.config(QUESTIONS)).model.license == "apache-2.0"


def test_a_broken_config_is_refused_in_one_line(case: Case) -> None:
    (case.model / "config.json").write_text("{")
    assert unusable(case).startswith("its config.json can't be read: It looks like the config file at ")


def test_an_unknown_architecture_is_refused_in_one_line(case: Case) -> None:
    (case.model / "config.json").write_text('{"model_type": "newest"}')
    message = unusable(case)
    assert message.startswith("its config.json can't be read: ")
    assert "`newest`" in message
    assert "\n" not in message


def test_a_model_that_brings_code_needs_trust(case: Case) -> None:
    (case.model / "config.json").write_text('{"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}')
    assert unusable(case) == "it brings its own code, which runs only with model.trustRemoteCode."


def test_weights_that_could_run_code_are_refused(case: Case) -> None:
    for path in case.model.glob("*.safetensors*"):
        path.unlink()
    (case.model / "pytorch_model.bin").write_bytes(b"")
    assert unusable(case) == ("it has no weights in safetensors, the one format that can't run code when it is loaded.")


def test_weights_that_git_lfs_left_behind_are_named(case: Case) -> None:
    (case.model / "model-00002-of-00002.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid x\n")
    assert unusable(case) == ("model-00002-of-00002.safetensors is a Git LFS pointer: fetch it with git lfs pull.")


@pytest.mark.parametrize("break_it", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:20])])
def test_weights_that_are_cut_off_or_missing_are_named(case: Case, break_it: Any) -> None:
    break_it(case.model / "model-00002-of-00002.safetensors")
    assert unusable(case).startswith("model-00002-of-00002.safetensors can't be read: ")


def test_copies_of_the_weights_for_other_programs_are_not_counted(case: Case) -> None:
    shutil.copy(case.model / "model-00001-of-00002.safetensors", case.model / "consolidated.safetensors")
    assert case.prepare(case.config(CHATS)).model.parameters == PARAMETERS


def test_progress_says_what_is_under_way(case: Case) -> None:
    seen = []
    update = case.reporter.update

    def keep(**fields: Any) -> None:
        update(**fields)
        seen.append((case.reporter.progress.activity, case.reporter.progress.step))

    case.reporter.update = keep  # type: ignore[method-assign]
    case.prepare(case.config(CHATS))
    assert seen == [
        ("fetching pvc://models/tiny", 0),
        ("fetching pvc://data/train.jsonl", 0),
        ("checking pvc://data/train.jsonl", 0),
        ("checking pvc://data/train.jsonl", len(CHATS)),
        ("writing the rows", len(CHATS)),
    ]
