"""Files and keys by OpenAI's client: what is kept where, who may see it, and what is not let in."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import openai_server
import pytest
from control_plane import PATIENCE, ControlPlane, Kubectl
from openai import OpenAI
from openai_server import CHAT, KEY, PLAIN, Keyring, refused, rows
from s3 import Bucket


def test_files_are_kept_under_their_namespace_whatever_they_are_called(
    client: OpenAI, bucket: Bucket, keys: Keyring, namespace: str
) -> None:
    content = b"\xef\xbb\xbf" + rows(CHAT)
    names = ("../../other/train.jsonl", "a/b.jsonl", "räte\n.jsonl")
    made = [client.files.create(file=(name, content), purpose="fine-tune") for name in names]
    assert {each.filename for each in made} >= {"../../other/train.jsonl", "a/b.jsonl"}
    ids = {each.id for each in made}
    assert bucket.names(f"data/openai/{namespace}") == {f"{id}{end}" for id in ids for end in (".json", ".jsonl")}
    assert {each.id for each in client.files.list()} == ids
    assert {each.id for each in client.files.list(limit=1)} == ids
    oldest = [each.id for each in client.files.list(order="asc")]
    assert oldest == [each.id for each in client.files.list()][::-1]
    assert client.files.list(purpose="batch").data == []
    assert client.files.content(made[0].id).read() == content
    assert (client.files.retrieve(made[0].id).bytes, made[0].status) == (len(content), "processed")

    keys.give("sk-another", "elsewhere")
    other = client.with_options(api_key="sk-another")
    assert other.files.list().data == []
    for name in (made[0].id, f"file-../{namespace}/{made[0].id}", "file-1"):
        for ask in (other.files.retrieve, other.files.content, other.files.delete):
            refused(openai.NotFoundError, lambda ask=ask, name=name: ask(name))
    wrong = refused(openai.NotFoundError, lambda: other.files.retrieve(made[0].id))
    assert wrong == f"No such file: {made[0].id}."

    assert client.files.delete(made[0].id).deleted
    assert refused(openai.NotFoundError, lambda: client.files.content(made[0].id)) == f"No such file: {made[0].id}."
    assert len(bucket.names(f"data/openai/{namespace}")) == 4


def test_files_that_teach_nothing_are_refused(client: OpenAI, bucket: Bucket, namespace: str) -> None:
    def add(name: str, content: bytes, **others: Any) -> Callable[[], object]:
        return lambda: client.files.create(**{"file": (name, content), "purpose": "fine-tune", **others})

    faults = rows(CHAT, {"messages": [{"role": "user", "content": "Pancakes?"}]}) + b"{]\n"
    assert refused(openai.BadRequestError, add("bad.jsonl", faults)).splitlines() == [
        "bad.jsonl has 2 faults:",
        "bad.jsonl:2: has no message of the assistant, so there is nothing to learn",
        "bad.jsonl:3: is not JSON: Expecting property name enclosed in double quotes at column 2",
    ]
    assert refused(openai.BadRequestError, add("empty.jsonl", b"\n")) == "empty.jsonl has no rows."
    wrong = refused(openai.BadRequestError, add("rows.csv", b"a,b\n"))
    assert wrong == "rows.csv is no .jsonl file: write a row as JSON in each line."
    wrong = refused(openai.BadRequestError, add("a.jsonl", rows({"question": "a"})))
    assert wrong.startswith("The format of a.jsonl can't be told from its columns (question).")
    wrong = refused(openai.BadRequestError, add("a.jsonl", rows(CHAT), purpose="batch"))
    assert wrong == "purpose must be fine-tune: files of rows are all that is kept here."
    wrong = refused(
        openai.BadRequestError, add("a.jsonl", rows(CHAT), expires_after={"anchor": "created_at", "seconds": 3600})
    )
    assert wrong == "expires_after[anchor] is not known here: a file stays until it is deleted."
    wrong = refused(openai.APIStatusError, add("large.jsonl", rows(*[CHAT] * 2000)))
    assert wrong == "The request is too large: at most 165,536 bytes are taken here."
    form: Any = {"headers": {"Authorization": f"Bearer {KEY}"}, "data": {"purpose": "fine-tune"}, "timeout": PATIENCE}
    without = httpx.post(f"{client.base_url}files", **form)
    assert (without.status_code, without.json()["error"]["param"]) == (400, "file")
    assert without.json()["error"]["message"] == "file is required, a file with a name."
    two = [("file", ("a.jsonl", rows(CHAT))), ("file", ("b.jsonl", rows(CHAT)))]
    too_many = httpx.post(f"{client.base_url}files", files=two, **form)
    assert too_many.json()["error"]["message"] == "POST /v1/files: Too many files. Maximum number of files is 1."
    assert bucket.names(f"data/openai/{namespace}") == set()


def test_a_key_opens_its_own_namespace_for_what_it_may_and_no_longer_than_it_is_there(
    client: OpenAI, url: str, keys: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    how = "send the key that you were given as Authorization: Bearer KEY (OpenAI's client: api_key)"
    unknown = client.with_options(api_key="sk-unknown")
    assert refused(openai.AuthenticationError, lambda: unknown.models.list()) == f"The key is not known here: {how}."
    without = httpx.get(f"{url}/models", timeout=PATIENCE)
    assert without.status_code == 401
    assert without.json()["error"]["message"] == f"There is no key in the request: {how}."
    keys.give("sk-reader", "elsewhere", "read")
    reader = client.with_options(api_key="sk-reader")
    assert reader.models.list().data
    upload = lambda: reader.files.create(file=("a.jsonl", rows(CHAT)), purpose="fine-tune")  # noqa: E731
    no = "This key has no right to {}: ask for one whose entry has it among its rights."
    assert refused(openai.PermissionDeniedError, upload) == no.format("write")
    ask = lambda: reader.chat.completions.create(model="m", messages=[])  # noqa: E731
    assert refused(openai.PermissionDeniedError, ask) == no.format("ask")
    keys.write("broken", '{"sha256": "abc"}')
    assert client.models.list().data
    assert "Entry broken of the Secret of keys is left out: wrong is namespace, sha256" in caplog.text
    keys.take()
    assert refused(openai.AuthenticationError, lambda: client.models.list()) == f"The key is not known here: {how}."
    assert not [key for key in (KEY, "sk-reader", "sk-unknown") if key in caplog.text]
    assert httpx.get(f"{url.removesuffix('/v1')}/healthz", timeout=PATIENCE).json() == {"status": "ok"}
    lost = httpx.get(f"{url}/assistants", timeout=PATIENCE)
    assert lost.json()["error"]["message"] == "GET /v1/assistants is not known here."


def test_files_in_a_claim_are_every_replicas_and_a_job_reads_them_there(
    granted: None, control_plane: ControlPlane, keys: Keyring, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    found = replace(openai_server.settings("", keys.directory), claim="files", files=tmp_path / "files", rows_secret="")
    with (
        openai_server.serving(control_plane, found) as one,
        openai_server.serving(control_plane, found) as other,
        OpenAI(base_url=one, api_key=KEY, max_retries=0) as client,
        OpenAI(base_url=other, api_key=KEY, max_retries=0) as again,
    ):
        sent = rows(CHAT, CHAT)
        id = client.files.create(file=("train.jsonl", sent), purpose="fine-tune").id
        assert again.files.content(id).content == sent
        assert [each.id for each in again.files.list()] == [id]
        again.fine_tuning.jobs.create(model=PLAIN, training_file=id)
        made = json.loads(kubectl("get", "ftj", "-o", "json"))["items"]
        (dataset,) = [raw["spec"]["dataset"] for raw in made]
        assert dataset["train"] == {"source": f"pvc://files/{namespace}/{id}.jsonl"}
        assert "credentials" not in dataset
        again.files.delete(id)
        assert refused(openai.NotFoundError, lambda: client.files.retrieve(id)) == f"No such file: {id}."
