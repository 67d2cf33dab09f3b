"""`finetune serve`: OpenAI's own client against it, from rows to a model that answers, and what a laptop has not.

Real: the client, the server, `finetune run` and its files. Played: the trainer and the engine (`played_run`).
"""

import asyncio
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
import yaml
from finetune_cli import ground, main
from finetune_cli.background import Background
from finetune_cli.errors import UserError
from finetune_cli.ground import LaptopJobs, patched
from finetune_cli.job import localize, read
from finetune_cli.jobs import Job
from finetune_cli.laptop import Laptop
from finetune_cli.serve import application, base_models
from finetune_cli.store import ROOT, Store
from finetune_operator.api.status import FineTuneJobStatus
from finetune_server.settings import Settings
from finetune_server.tuning import REQUEST
from finetune_trainer.contract.outcome import Outcome, Termination
from listening import listening
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from paths import EXAMPLES
from played_run import HOLD, PLAYED, PROGRAM
from rehearsal import PREPARED, TRAINED
from statuses import NOW, serving, status, training
from typer.testing import CliRunner

BASE = "gpt-4o-mini-2024-07-18"
MODELS: dict[str, Any] = {
    BASE: {
        "model": {"source": "file://model"},
        # Of which `finetune run` says first that only a cluster acts on it.
        "training": {"learningRate": 2e-4, "resources": {"limits": {"cpu": 2}}},
        "evaluation": {"enabled": False},
        "hosting": {"contextLength": 256},
    }
}
CHAT = {"messages": [{"role": "user", "content": "Pancakes?"}, {"role": "assistant", "content": "flour, eggs"}]}
ROWS = (json.dumps(CHAT) + "\n").encode() * 3
QUESTION: Any = [{"role": "user", "content": "Soup?"}]
SUSPENDED = ("Unknown", "Suspended", "The run was stopped; with `finetune run` host serves it again.")
# The model of a run that has ended.
ENDED = f"ft:{BASE}:local::ended"
WAITS = ("Unknown", "Waiting", "An earlier stage comes first.")
# Seconds. A run begins with reading its libraries, several times, on cores that it shares with other tests.
PATIENCE = 300


def play(kitchen: Path, **stages: Any) -> None:
    """What the stages of the runs there end with."""
    done = {
        name: {"code": 0, "termination": {"reason": "Succeeded", "result": result}}
        for name, result in (("prepare", PREPARED), ("train", TRAINED))
    }
    (kitchen / PLAYED).write_text(json.dumps(done | stages))


@pytest.fixture
def kitchen(tmp_path: Path) -> Iterator[Path]:
    """The directory; no run outlives the test."""
    play(tmp_path)
    yield tmp_path
    for name in Laptop(tmp_path / ROOT).names():
        asyncio.run(Background(tmp_path).stop(name))


@pytest.fixture
def client(kitchen: Path) -> Iterator[OpenAI]:
    server = application(Background(kitchen, PROGRAM, stop_seconds=120), Settings(models=MODELS, wait_seconds=PATIENCE))
    # Strict: every answer is held to the type that OpenAI's specification has for it.
    given: Any = {"api_key": "none", "max_retries": 0, "_strict_response_validation": True}
    with listening(server) as address, OpenAI(base_url=f"{address}/v1", **given) as found:
        yield found


@pytest.fixture
def lenient(client: OpenAI) -> OpenAI:
    """The same for what OpenAI's types don't have: status paused."""
    return client.with_options(_extra_kwargs={"_strict_response_validation": False})


def refused(error: type[openai.APIStatusError], what: Callable[[], object]) -> str:
    """The sentence, in OpenAI's shape."""
    with pytest.raises(error) as found:
        what()
    body = found.value.response.json()
    assert body["error"].keys() == {"message", "type", "param", "code"}
    return str(body["error"]["message"])


def until(client: OpenAI, id: str, wanted: str) -> FineTuningJob:
    """The job, once it has a status."""
    for _ in range(int(PATIENCE / 0.1)):
        job = client.fine_tuning.jobs.retrieve(id)
        if job.status == wanted:
            return job
        threading.Event().wait(0.1)
    pytest.fail(f"not {wanted}: {job}")


def until_holds(holds: Callable[[], bool]) -> None:
    for _ in range(int(PATIENCE / 0.1)):
        if holds():
            return
        threading.Event().wait(0.1)
    pytest.fail("it does not come to that")


def upload(client: OpenAI, name: str = "train.jsonl") -> str:
    return client.files.create(file=(name, ROWS), purpose="fine-tune").id


def name_of(job: FineTuningJob) -> str:
    return job.id.removeprefix("ftjob-")


def manifest(kitchen: Path, job: FineTuningJob) -> dict[str, Any]:
    return dict(yaml.safe_load((kitchen / f"{name_of(job)}.yaml").read_text()))


def ask(client: OpenAI, model: str) -> str | None:
    return client.chat.completions.create(model=model, messages=QUESTION).choices[0].message.content


def test_from_rows_to_a_model_that_sleeps_wakes_and_is_deployed(client: OpenAI, kitchen: Path) -> None:
    train, held_out = upload(client), upload(client, "validation.jsonl")
    # Long before the other one, by a clock that may not have gone on between the two.
    for kept in (kitchen / ROOT).rglob(f"{train}.json"):
        os.utime(kept, (0, 0))
    assert [each.id for each in client.files.list()] == [held_out, train]
    assert client.files.retrieve(train).filename == "train.jsonl"
    assert client.files.content(train).content == ROWS
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=train,
        validation_file=held_out,
        suffix="Recipe NER",
        metadata={"team": "kitchen"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "learning_rate_multiplier": 0.5}},
        },
    )
    assert (job.model, job.training_file, job.validation_file) == (BASE, train, held_out)
    spec = manifest(kitchen, job)["spec"]
    assert (spec["training"]["epochs"], spec["training"]["learningRate"]) == (2, 1e-4)
    # What the job learns from stays its own.
    for file in (train, held_out):
        assert client.files.delete(file).deleted
    assert not list(client.files.list())
    rows = kitchen / spec["dataset"]["train"]["source"].removeprefix("file://")
    assert rows.read_bytes() == ROWS

    job = until(client, job.id, "succeeded")
    model = f"ft:{BASE}:local:Recipe NER:{name_of(job)}"
    assert (job.fine_tuned_model, job.trained_tokens) == (model, 30_000)
    assert job.finished_at
    assert job.finished_at >= job.created_at
    messages = [each.message for each in client.fine_tuning.jobs.list_events(job.id)]
    assert messages[0] == "The job has successfully completed"
    assert messages[-1] == f"Created fine-tuning job: {job.id}"
    assert client.fine_tuning.jobs.checkpoints.list(job.id).object == "list"
    assert [each.id for each in client.fine_tuning.jobs.list(metadata={"team": "kitchen"})] == [job.id]
    assert [each.id for each in client.models.list()] == [BASE, model]
    assert ask(client, model) == f"{name_of(job)} was asked Soup?"

    # As after a night: nothing serves it, and who asks waits for `finetune run`.
    asyncio.run(Background(kitchen).stop(name_of(job)))
    assert client.fine_tuning.jobs.retrieve(job.id) == job
    assert client.models.retrieve(model).owned_by == "local"
    assert ask(client, model) == f"{name_of(job)} was asked Soup?"
    assert client.fine_tuning.jobs.retrieve(job.id) == job

    assert client.models.delete(model).deleted
    assert not Store(name_of(job), kitchen / ROOT).running
    assert manifest(kitchen, job)["spec"]["hosting"]["enabled"] is False
    assert client.fine_tuning.jobs.retrieve(job.id).status == "succeeded"
    assert refused(openai.NotFoundError, lambda: ask(client, model)) == f"No such model: {model}."

    account = "subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/local"
    url = f"{str(client.base_url).removesuffix('/v1/')}/{account}/deployments/soup?api-version=2024-10-01"
    deployment = {
        "sku": {"name": "standard", "capacity": 1},
        "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
    }
    assert httpx.put(url, json=deployment, timeout=PATIENCE).status_code == 201
    assert httpx.get(url, timeout=PATIENCE).json()["properties"]["provisioningState"] == "Succeeded"
    assert ask(client, model) == f"{name_of(job)} was asked Soup?"
    assert httpx.delete(url, timeout=PATIENCE).status_code == 200
    assert refused(openai.NotFoundError, lambda: ask(client, model)) == f"No such model: {model}."


def test_one_at_a_time_paused_resumed_and_cancelled(client: OpenAI, lenient: OpenAI, kitchen: Path) -> None:
    (kitchen / HOLD).touch()
    train = upload(client)
    job = client.fine_tuning.jobs.create(model=BASE, training_file=train)
    until(client, job.id, "running")
    said = refused(openai.RateLimitError, lambda: client.fine_tuning.jobs.create(model=BASE, training_file=train))
    assert said.startswith("1 of this key's jobs are under way, and it may have 1 at once")
    assert lenient.fine_tuning.jobs.pause(job.id).status == "paused"
    assert not Store(name_of(job), kitchen / ROOT).running
    assert lenient.fine_tuning.jobs.retrieve(job.id).status == "paused"
    # A paused job is in nobody's way, and a manifest that `finetune run` takes.
    assert "suspend" not in manifest(kitchen, job)["spec"]
    assert client.fine_tuning.jobs.resume(job.id).status != "paused"
    until(client, job.id, "running")
    cancelled = client.fine_tuning.jobs.cancel(job.id)
    assert (cancelled.status, cancelled.fine_tuned_model) == ("cancelled", None)
    assert not Store(name_of(job), kitchen / ROOT).running
    assert client.fine_tuning.jobs.retrieve(job.id).status == "cancelled"
    said = refused(openai.BadRequestError, lambda: client.fine_tuning.jobs.resume(job.id))
    assert said == "The job is cancelled, and can't be resumed: only one that is paused can be."


def test_what_is_wrong_with_the_rows_is_the_jobs_error(client: OpenAI, kitchen: Path) -> None:
    wrong = Termination(reason="DataInvalid", message="train.jsonl:2: has no answer.")
    play(kitchen, prepare={"code": Outcome.DATA_INVALID.exit.code, "termination": wrong.model_dump()})
    job = until(client, client.fine_tuning.jobs.create(model=BASE, training_file=upload(client)).id, "failed")
    assert job.error
    assert (job.error.code, job.error.param) == ("data_invalid", "training_file")
    assert "train.jsonl:2: has no answer." in job.error.message
    assert job.fine_tuned_model is None


def test_what_cannot_begin_is_told_at_once_and_leaves_nothing(client: OpenAI, kitchen: Path) -> None:
    train = upload(client)
    tuned = f"ft:{BASE}:local::recipes"
    made_by_hand(kitchen, "recipes", serving(), openai_base=BASE)
    said = refused(openai.BadRequestError, lambda: client.fine_tuning.jobs.create(model=tuned, training_file=train))
    assert said == (
        "model.source: recipes was not trained in this directory (trained revisions: none); train it first, with "
        "`finetune run` of its manifest."
    )
    assert sorted(path.name for path in kitchen.glob("*.yaml")) == ["recipes.yaml"]
    assert sorted(path.name for path in (kitchen / ROOT).iterdir()) == [".files", ".gitignore", "recipes"]


ENDS = "import sys; open('tries', 'a').write('x'); sys.exit('error: The base model is gone.')"


@pytest.mark.parametrize(
    ("seconds", "error", "said"),
    [
        (60, openai.InternalServerError, "Model ended can't be woken now: The base model is gone."),
        (
            0,
            openai.RateLimitError,
            f"Model {ENDED} wakes up, which takes longer than 0 seconds: try again in a moment.",
        ),
    ],
)
def test_a_model_that_does_not_wake_is_told_and_stays(
    kitchen: Path, seconds: int, error: type[openai.APIStatusError], said: str
) -> None:
    ended = status("Suspended", {"Hosted": SUSPENDED, "Promoted": WAITS})
    made_by_hand(kitchen, "ended", ended, openai_base=BASE)
    broken = Background(kitchen, (sys.executable, "-c", ENDS))
    with listening(application(broken, Settings(models=MODELS, wait_seconds=seconds))) as address:
        client = OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=2 if seconds else 0)
        assert refused(error, lambda: ask(client, ENDED)) == said
        assert client.fine_tuning.jobs.retrieve("ftjob-ended").status == "succeeded"
    # The client does not try by itself what takes minutes.
    assert not seconds or (kitchen / "tries").read_text() == "x"


def test_a_run_that_was_about_to_end_when_its_model_was_asked_is_begun_anew(
    kitchen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by_hand(kitchen, "ended", status("Suspended", {"Hosted": SUSPENDED, "Promoted": WAITS}), openai_base=BASE)
    broken, look = Background(kitchen, (sys.executable, "-c", ENDS)), LaptopJobs._job
    with ExitStack() as running, listening(application(broken, Settings(models=MODELS))) as address:
        client = OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        running.enter_context(Store("ended", kitchen / ROOT).lock())

        async def ending(jobs: LaptopJobs, name: str) -> Job:
            found = await look(jobs, name)
            running.close()
            return found

        monkeypatch.setattr(LaptopJobs, "_job", ending)
        said = refused(openai.InternalServerError, lambda: ask(client, ENDED))
    assert said == "Model ended can't be woken now: The base model is gone."


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """A manifest, by somebody's hand."""
    found = yaml.safe_load(path.read_text())
    change(found)
    path.write_text(yaml.safe_dump(found))


def test_a_question_trains_nothing(kitchen: Path) -> None:
    made_by_hand(kitchen, "ended", status("Suspended", {"Hosted": SUSPENDED, "Promoted": WAITS}), openai_base=BASE)
    path, again = kitchen / "ended.yaml", (kitchen / "ended.yaml").read_text()
    started = Background(kitchen, (sys.executable, "-c", ENDS))
    with listening(application(started, Settings(models=MODELS))) as address:
        client = OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)

        def said() -> str:
            (model,) = [each.id for each in client.models.list() if each.id != BASE]
            return refused(openai.InternalServerError, lambda: ask(client, model))

        changed = (
            "Model ended can't be woken now: ended.yaml or its rows were changed since: `finetune run ended.yaml` "
            "trains what it describes now."
        )
        edited(path, lambda found: found["spec"]["training"].update(epochs=9))
        assert said() == changed
        path.write_text(again)
        (kitchen / "train.jsonl").write_bytes(ROWS + ROWS)
        assert said() == changed
        edited(path, lambda found: found["metadata"].update(name="another"))
        assert said().startswith("Model ended can't be woken now: nothing serves it, and its manifest is not here as ")
        path.write_text("spec: [")
        assert said().startswith(f"Model ended can't be woken now: {path}: is not YAML: ")
    assert not (kitchen / "tries").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["spec"].update(hosting=None),
        lambda found: found["spec"].update(training=None),
        lambda found: found["spec"].update(dataset=None),
        lambda found: found["metadata"].update(annotations=None),
        lambda found: found["metadata"].update(annotations="none"),
        lambda found: found.update(metadata=None),
        lambda found: found.update(spec=None),
    ],
)
def test_a_manifest_that_is_being_edited_hides_nothing(
    client: OpenAI, kitchen: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    made_by_hand(kitchen, "ended", status("Suspended", {"Hosted": SUSPENDED, "Promoted": WAITS}), openai_base=BASE)
    edited(kitchen / "ended.yaml", change)
    assert [each.status for each in client.fine_tuning.jobs.list()] == ["succeeded"]
    assert len(list(client.models.list())) == 2
    assert client.fine_tuning.jobs.list_events("ftjob-ended").data


def stream(client: OpenAI, id: str, **asked: str) -> openai.Stream[FineTuningJobEvent]:
    return client.get(
        f"/fine_tuning/jobs/{id}/events",
        cast_to=FineTuningJobEvent,
        options={"params": {"stream": "true", **asked}},
        stream=True,
        stream_cls=openai.Stream[FineTuningJobEvent],
    )


def test_events_are_streamed_as_they_happen_until_the_job_has_ended(client: OpenAI, kitchen: Path) -> None:
    (kitchen / HOLD).touch()
    job = client.fine_tuning.jobs.create(model=BASE, training_file=upload(client))
    told = []
    with stream(client, job.id) as events:
        for event in events:
            told.append(event)
            if event.message.startswith("DataReady: "):
                # It trains on only now, while somebody reads.
                (kitchen / HOLD).unlink()
    listed = list(client.fine_tuning.jobs.list_events(job.id))
    assert told[0].message == f"Created fine-tuning job: {job.id}"
    assert {each.id for each in listed} <= {each.id for each in told}
    assert told[-1].message == "The job has successfully completed"
    assert len({each.id for each in told}) == len(told)
    with stream(client, job.id, after=listed[1].id) as events:
        assert [each.message for each in events] == ["The job has successfully completed"]


def test_what_a_stream_does_not_take_is_refused(client: OpenAI, kitchen: Path) -> None:
    made_by_hand(kitchen, "ended", status("Suspended", {"Hosted": SUSPENDED, "Promoted": WAITS}), openai_base=BASE)
    for asked, sentence in (
        ({"stream": "yes"}, "stream must be false or true, not yes."),
        ({"limit": "5"}, "limit is not known here, and nothing is ignored: remove it."),
        ({"after": "ftevent-1"}, "after names ftevent-1, which is not in the list: begin anew without it."),
    ):
        assert refused(openai.BadRequestError, lambda asked=asked: stream(client, "ftjob-ended", **asked)) == sentence
    assert refused(openai.NotFoundError, lambda: stream(client, "ftjob-none")) == "No such fine-tuning job: ftjob-none."


def test_an_endpoint_of_openais_that_is_not_here_says_why(client: OpenAI) -> None:
    checkpoint = "ft:x:local::a:ckpt-step-5"
    permissions = client.fine_tuning.checkpoints.permissions
    why = "is not here: a model belongs to its namespace, and every key of that may ask it."
    for call in (
        lambda: permissions.list(checkpoint),
        lambda: permissions.create(checkpoint, project_ids=["proj_1"]),
        lambda: permissions.delete("perm_1", fine_tuned_model_checkpoint=checkpoint),
    ):
        assert refused(openai.NotFoundError, call).endswith(why)
    said = refused(openai.NotFoundError, lambda: client.embeddings.create(model=BASE, input="egg"))
    assert said == "POST /v1/embeddings is not here: what is tuned here writes."


def test_a_manifest_that_cannot_be_read_is_told_and_its_run_counts(client: OpenAI, kitchen: Path) -> None:
    made_by_hand(kitchen, "typo", training(), openai_base=BASE)
    (kitchen / "typo.yaml").write_text("spec: [")
    with Store("typo", kitchen / ROOT).lock():
        said = refused(openai.ConflictError, lambda: client.fine_tuning.jobs.cancel("ftjob-typo"))
        assert said.startswith(f"{kitchen}/typo.yaml: is not YAML: ")
        assert said.endswith(" Mend that first; `finetune cancel typo` ends its run as it is.")
        train = upload(client)
        refused(openai.RateLimitError, lambda: client.fine_tuning.jobs.create(model=BASE, training_file=train))


def test_what_was_killed_is_not_cancelled_before_its_trainer_has_ended(client: OpenAI, kitchen: Path) -> None:
    (kitchen / HOLD).touch()
    job = client.fine_tuning.jobs.create(model=BASE, training_file=upload(client))
    until(client, job.id, "running")
    lock = kitchen / ROOT / name_of(job) / "lock"
    killed = psutil.Process(int(lock.read_text()))
    (trainer,) = killed.children()
    killed.kill()
    until_holds(lambda: killed.status() == psutil.STATUS_ZOMBIE)
    said = refused(openai.ConflictError, lambda: client.fine_tuning.jobs.cancel(job.id))
    assert said == (
        f"Process {killed.pid}, which ran {name_of(job)}, was killed and left its trainer or engine running; end that "
        f"with `fuser -k {lock}` and run again."
    )
    assert "finetune.dev/openai-cancelled" not in manifest(kitchen, job)["metadata"]["annotations"]
    trainer.kill()
    until_holds(lambda: not Store(name_of(job), kitchen / ROOT).running)
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"


# Takes the lock of a job, as a run that does not hear.
DEAF = """
import signal, sys
from pathlib import Path
from finetune_cli.store import Store
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with Store(sys.argv[1], Path(sys.argv[2])).lock():
    print("held", flush=True)
    signal.pause()
"""


def test_what_does_not_end_is_not_cancelled(kitchen: Path) -> None:
    made_by_hand(kitchen, "deaf", training(), openai_base=BASE)
    before = (kitchen / "deaf.yaml").read_text()
    command = [sys.executable, "-c", DEAF, "deaf", str(kitchen / ROOT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as held:
        try:
            assert held.stdout
            assert held.stdout.readline() == "held\n"
            runs = Background(kitchen, PROGRAM, stop_seconds=0)
            with listening(application(runs, Settings(models=MODELS))) as address:
                # It would try once more by itself, and kill what it waits for.
                client = OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=1)
                said = refused(openai.ConflictError, lambda: client.fine_tuning.jobs.cancel("ftjob-deaf"))
        finally:
            held.kill()
    assert said == (
        "The run of deaf was asked to end and has not within 0 s: to ask once more kills what it waits for."
    )
    assert (kitchen / "deaf.yaml").read_text() == before


def test_what_begins_too_late_is_ended_and_leaves_nothing(kitchen: Path) -> None:
    late = Background(kitchen, (sys.executable, "-c", "import signal; signal.pause()"), start_seconds=0)
    with listening(application(late, Settings(models=MODELS))) as address:
        client = OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        train = upload(client)
        said = refused(openai.BadRequestError, lambda: client.fine_tuning.jobs.create(model=BASE, training_file=train))
    assert said.endswith(
        ".yaml` had not begun after 0 s, and was ended: try again when this machine has less to do. It had said nothing"
    )
    assert [started.returncode for started in late._started.values()] == [-signal.SIGTERM]
    assert not list(kitchen.glob("*.yaml"))
    assert sorted(path.name for path in (kitchen / ROOT).iterdir()) == [".files", ".gitignore"]


def test_a_disk_that_is_full_is_told_and_nothing_is_left(
    client: OpenAI, kitchen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, own: Path) -> None:
        own.touch()
        raise OSError(errno.ENOSPC, "No space left on device", str(own))

    monkeypatch.setattr(ground, "_link", full)
    train = upload(client)
    said = refused(openai.InternalServerError, lambda: client.fine_tuning.jobs.create(model=BASE, training_file=train))
    assert said.startswith("The job can't be written here: [Errno 28] No space left on device: ")
    assert sorted(path.name for path in (kitchen / ROOT).iterdir()) == [".files", ".gitignore"]


def test_when_it_was_done_stays_whoever_looks_and_whatever_wakes(client: OpenAI, kitchen: Path) -> None:
    done = NOW - timedelta(minutes=14)
    made_by_hand(kitchen, "ended", serving())
    store = Store("ended", kitchen / ROOT)
    for now in (done, NOW):
        told = serving()
        for each in told["conditions"]:
            each["lastTransitionTime"] = now.isoformat()
        store.write(FineTuneJobStatus.model_validate(told))
        assert client.fine_tuning.jobs.retrieve("ftjob-ended").finished_at == done.timestamp()
        (model,) = [each for each in client.models.list() if each.id != BASE]
        assert model.created == done.timestamp()


def test_a_directory_may_be_called_anything(tmp_path: Path) -> None:
    odd = tmp_path / "rows [a]*?"
    odd.mkdir()
    with listening(application(Background(odd, PROGRAM), Settings(models=MODELS))) as address:
        client = OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        train = upload(client)
        assert [each.id for each in client.files.list()] == [train]
        assert client.files.content(train).content == ROWS


def test_a_base_model_that_only_a_cluster_has_is_refused(kitchen: Path) -> None:
    models = {"shared": {"model": {"source": "pvc://models/small"}}}
    with listening(application(Background(kitchen, PROGRAM), Settings(models=models))) as address:
        client = OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        train = upload(client)
        said = refused(
            openai.BadRequestError, lambda: client.fine_tuning.jobs.create(model="shared", training_file=train)
        )
    assert said.startswith("model.source: pvc://models/small is a PersistentVolumeClaim, which only a cluster has")
    assert not list(kitchen.glob("*.yaml"))


def made_by_hand(kitchen: Path, name: str, told: dict[str, Any], openai_base: str = "") -> None:
    """What `finetune run` leaves of a job, and its manifest where the base model's name in the table is known."""
    store = Store(name, kitchen / ROOT)
    store.directory.mkdir(parents=True)
    if openai_base:
        (kitchen / "train.jsonl").write_bytes(ROWS)
        request = {"model": openai_base, "training_file": "file-1"}
        annotations = {REQUEST: json.dumps(request), "finetune.dev/openai-base-model": openai_base}
        spec = MODELS[openai_base] | {"dataset": {"train": {"source": "file://train.jsonl"}}}
        metadata = {"name": name, "annotations": annotations}
        job = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": metadata, "spec": spec}
        path = kitchen / f"{name}.yaml"
        path.write_text(yaml.safe_dump(job))
        told = told | {"revision": localize(name, read(path).spec, kitchen).revision}
    store.write(FineTuneJobStatus.model_validate(told))


def test_runs_of_the_command_line_are_seen_and_left_alone(client: OpenAI, lenient: OpenAI, kitchen: Path) -> None:
    made_by_hand(kitchen, "ended", status("Suspended", {"Hosted": SUSPENDED, "Promoted": WAITS}))
    gate = "token_f1 is 0.41, and 0.5 was asked for."
    missed = {"Evaluated": ("False", "GateNotMet", gate), "Ready": ("False", "GateNotMet", f"Evaluated: {gate}")}
    made_by_hand(kitchen, "missed", status("Rejected", missed))
    # It had passed another gate.
    (kitchen / ROOT / "missed" / "passed").write_text(json.dumps({"revision": "bbbb0002", "since": {}}))
    made_by_hand(kitchen, "stopped", status("Suspended", {"Trained": SUSPENDED, "Evaluated": WAITS}))
    differs = {"Merged": ("False", "AnswersDiffer", "2 of 32 answers differ."), "Hosted": SUSPENDED, "Promoted": WAITS}
    made_by_hand(kitchen, "loaded", status("Suspended", differs))
    told = {name_of(job): job for job in lenient.fine_tuning.jobs.list()}
    assert {name: job.status for name, job in told.items()} == {
        "ended": "succeeded",
        "loaded": "succeeded",
        "missed": "failed",
        "stopped": "paused",
    }
    assert told["missed"].error
    assert told["missed"].error.message == gate
    model = str(told["ended"].fine_tuned_model)
    assert {each.id for each in client.models.list()} == {BASE, model, told["loaded"].fine_tuned_model}
    assert refused(openai.InternalServerError, lambda: ask(client, model)) == (
        "Model ended can't be woken now: nothing serves it, and its manifest is not here as ended.yaml: `finetune run` "
        "of that does."
    )
    assert refused(openai.ConflictError, lambda: client.fine_tuning.jobs.cancel("ftjob-stopped")) == (
        "stopped was not made by this API, and its manifest is left as it is: `finetune cancel stopped` ends its run, "
        "and `finetune run` of its manifest lets it go on."
    )
    assert refused(openai.NotFoundError, lambda: client.fine_tuning.jobs.retrieve("ftjob-gone"))


def test_web_pages_and_other_keys_are_not_let_in(kitchen: Path) -> None:
    server = application(Background(kitchen, PROGRAM), Settings(models=MODELS), "the-key")
    with listening(server) as address:
        url, key = f"{address}/v1/models", {"Authorization": "Bearer the-key"}
        assert httpx.get(url, headers=key, timeout=PATIENCE).status_code == 200
        for headers, code, said in [
            ({}, 401, "There is no key in the request"),
            ({"Authorization": "Bearer another"}, 401, "The key is not known here: send the key"),
            (key | {"Origin": "https://example.com"}, 403, "Only programs of this machine may ask"),
            (key | {"Host": "rebound.example.com"}, 403, "Only programs of this machine may ask"),
            (key | {"OpenAI-Project": "team-a"}, 403, "There is no team-a on a laptop"),
        ]:
            answer = httpx.get(url, headers=headers, timeout=PATIENCE)
            assert answer.status_code == code
            assert answer.json()["error"]["message"].startswith(said)
        account = "subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/my-account"
        answer = httpx.get(f"{address}/{account}/deployments?api-version=2024-10-01", headers=key, timeout=PATIENCE)
        assert answer.json()["error"]["message"] == (
            "There is no my-account on a laptop: the account in the path is local."
        )
    with listening(application(Background(kitchen, PROGRAM), Settings(models=MODELS))) as address:
        assert httpx.get(f"{address}/v1/models", timeout=PATIENCE).status_code == 200


def test_what_may_be_fine_tuned_is_the_demos_model_or_what_is_named(tmp_path: Path) -> None:
    small = "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert base_models(None, []) == {small: {"model": {"source": f"hf://{small}"}}}
    table = tmp_path / "models.yaml"
    table.write_text(yaml.safe_dump(MODELS))
    assert base_models(table, []) == MODELS
    (tmp_path / "tiny").mkdir()
    assert base_models(table, ["gpt-4=hf://acme/large", str(tmp_path / "tiny")]) == {
        **MODELS,
        "gpt-4": {"model": {"source": "hf://acme/large"}},
        "tiny": {"model": {"source": f"file://{tmp_path / 'tiny'}"}},
    }


@pytest.mark.parametrize("example", ["openai-cookbook", "azure-openai"])
def test_a_tutorials_table_has_the_name_that_its_script_asks_for(example: str) -> None:
    found = base_models(EXAMPLES / example / "models.yaml", [])
    assert found.keys() == {"gpt-4o-mini-2024-07-18"}
    assert all("gate" in entry["evaluation"] for entry in found.values())


@pytest.mark.parametrize(
    ("text", "model", "said"),
    [
        ("small: {model: {}}", [], "Base model small: spec.model.source"),
        ("[]", [], "has to be a map of base models"),
        ("{", [], "The table of base models, "),
        ("{}", ["small=ftp://acme/x"], "Base model small: spec.model.source"),
        (
            "{}",
            ["acme/small-1.5"],
            "--model acme/small-1.5: there is no directory acme/small-1.5 here; did you mean hf://acme/small-1.5?",
        ),
        ("{}", ["gpt-4o-mini"], "there is no directory gpt-4o-mini here; write NAME=hf://ORG/NAME or NAME=PATH."),
        ("{}", ["small=../nowhere"], "there is no directory ../nowhere here; write NAME=hf://ORG/NAME"),
    ],
)
def test_a_table_that_can_make_no_job_is_told(tmp_path: Path, text: str, model: list[str], said: str) -> None:
    table = tmp_path / "models.yaml"
    table.write_text(text)
    with pytest.raises(UserError) as found:
        base_models(table, model)
    assert said in found.value.message


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError) as found:
            CliRunner().invoke(main.app, ["serve", "--port", str(port)], catch_exceptions=False)
    assert found.value.message == f"Port {port} is taken: name another with --port, or end what listens there."


def test_a_port_that_this_user_may_not_have_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(probe: socket.socket, address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", denied)
    with pytest.raises(UserError) as found:
        CliRunner().invoke(main.app, ["serve", "--port", "80"], catch_exceptions=False)
    assert found.value.message == "Port 80 is root's alone: name one above 1023 with --port."


@pytest.mark.parametrize(("verb", "port"), [("serve", "0"), ("serve", "70000"), ("ui", "70000"), ("run", "70000")])
def test_what_is_no_port_is_told(verb: str, port: str) -> None:
    said = CliRunner().invoke(main.app, [verb, "--port", port, *(["job.yaml"] if verb == "run" else [])])
    assert said.exit_code == 2
    assert "Invalid value for '--port'" in said.output


def test_it_needs_neither_the_training_libraries_nor_a_clusters() -> None:
    heavy = ["torch", "transformers", "datasets", "pyarrow", "kubernetes"]
    line = f"import sys, finetune_cli.serve; sys.exit(' '.join(sorted(set({heavy}) & set(sys.modules))))"
    assert subprocess.run([sys.executable, "-c", line], capture_output=True, text=True).stderr.strip() == ""


def test_a_patch_takes_away_what_is_null() -> None:
    labels = {"metadata": {"labels": {"a": "1", "b": "2"}, "name": "x"}}
    patch: dict[str, Any] = {"metadata": {"labels": {"a": None, "c": "3"}}, "spec": {"hosting": {"enabled": False}}}
    assert patched(labels, patch) == {
        "metadata": {"labels": {"b": "2", "c": "3"}, "name": "x"},
        "spec": {"hosting": {"enabled": False}},
    }
