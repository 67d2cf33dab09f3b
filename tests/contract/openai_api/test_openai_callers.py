"""Who comes with a token of the cluster, and how much anybody may ask for, by OpenAI's client."""

import json
import socket
from collections.abc import Callable, Iterator
from hashlib import sha256

import httpx
import openai
import openai_server
import pytest
from control_plane import PATIENCE, ControlPlane, Kubectl
from openai import OpenAI
from openai_server import BASE, CHAT, KEY, Engine, Keyring, Told, refused, rows
from s3 import Bucket

STRANGER = "stranger"
TOKEN = f"token-of-{STRANGER}"


@pytest.fixture
def place(bucket: Bucket, granted: None) -> str:
    """Where files are kept."""
    bucket.grant(
        "BUCKET",
        AWS_ACCESS_KEY_ID="the-access-key",
        AWS_SECRET_ACCESS_KEY="the-secret-key",
        AWS_ENDPOINT_URL=bucket.endpoint,
    )
    return "s3://data/openai"


@pytest.fixture
def account(control_plane: ControlPlane, place: str, keys: Keyring, namespace: str) -> Iterator[OpenAI]:
    """Somebody with an account in the cluster, who names the test's namespace."""
    settings = openai_server.settings(place, keys.directory, cluster_tokens=True)
    with (
        openai_server.serving(control_plane, settings) as url,
        OpenAI(base_url=url, api_key=TOKEN, project=namespace, max_retries=0) as found,
    ):
        yield found


@pytest.fixture
def allow(control_plane: ControlPlane, admin: Kubectl, namespace: str) -> Callable[..., None]:
    """Let the stranger do things in the test's namespace, as its administrator would."""

    def give(resource: str, *verbs: str) -> None:
        name = resource.replace("/", "-").replace(".", "-")
        given = [f"--verb={verb}" for verb in verbs]
        admin("-n", namespace, "create", "role", name, f"--resource={resource}", *given)
        admin("-n", namespace, "create", "rolebinding", name, f"--role={name}", f"--user={STRANGER}")
        plural, _, group = resource.partition(".")
        for verb in verbs:
            control_plane.until_allowed(STRANGER, verb, plural, group, namespace)

    return give


def test_an_account_of_the_cluster_may_do_what_the_api_server_says(
    account: OpenAI,
    allow: Callable[..., None],
    control_plane: ControlPlane,
    namespace: str,
    told: Told,
    engine: Engine,
    engine_url: str,
) -> None:
    def no(what: str, right: str, where: str = namespace) -> str:
        return (
            f"{STRANGER} may not {what} in namespace {where}, which is what it takes to {right} here: ask for that "
            "right, or name another namespace (OpenAI's client: project)."
        )

    upload = lambda: account.files.create(file=("a.jsonl", rows(CHAT, CHAT)), purpose="fine-tune")  # noqa: E731
    create = lambda train: account.fine_tuning.jobs.create(model=BASE, training_file=train)  # noqa: E731
    wrong = refused(openai.PermissionDeniedError, lambda: account.fine_tuning.jobs.list())
    assert wrong == no("list finetunejobs", "read")
    allow("finetunejobs.finetune.dev", "get", "list", "create")
    assert account.fine_tuning.jobs.list().data == []
    train = upload().id
    job = create(train)
    made = [each for each in control_plane.calls(STRANGER) if each["verb"] == "create"]
    assert "finetunejobs" in {each["objectRef"]["resource"] for each in made}, "The audit log names somebody else."
    # Not what create alone allows: the API server itself has the last word.
    wrong = refused(openai.PermissionDeniedError, lambda: account.fine_tuning.jobs.cancel(job.id))
    assert wrong.startswith(
        f'The cluster does not allow it: finetunejobs.finetune.dev "{job.id[6:]}" is forbidden: User'
    )

    told.serves(job.id, engine_url)
    model = str(account.fine_tuning.jobs.retrieve(job.id).fine_tuned_model)
    ask = lambda: account.chat.completions.create(model=model, messages=[])  # noqa: E731
    assert refused(openai.PermissionDeniedError, ask) == no("create services/proxy", "ask")
    allow("services/proxy", "create")
    assert ask().choices[0].message.content == "flour, eggs"
    assert not any(TOKEN in value for headers in engine.headers for value in headers.values())

    unnamed = OpenAI(base_url=account.base_url, api_key=TOKEN, max_retries=0)
    wrong = refused(openai.PermissionDeniedError, lambda: unnamed.fine_tuning.jobs.list())
    assert wrong == no("list finetunejobs", "read", "default")
    wrong = refused(openai.BadRequestError, lambda: unnamed.with_options(project="../x").files.list())
    assert wrong == "'../x' is no name of a namespace."
    wrong = refused(openai.AuthenticationError, lambda: unnamed.with_options(api_key="token-of-nobody").files.list())
    assert wrong.startswith("The key is not known here, and no token of the cluster's: send the key")
    wrong = refused(openai.PermissionDeniedError, lambda: unnamed.with_options(api_key=KEY, project="a").files.list())
    assert wrong == f"This key opens namespace {namespace}, and not a: leave OpenAI-Project out."


def test_who_may_only_look_at_jobs_sees_no_rows(account: OpenAI, allow: Callable[..., None]) -> None:
    allow("finetunejobs.finetune.dev", "get", "list")
    train = account.with_options(api_key=KEY).files.create(file=("a.jsonl", rows(CHAT)), purpose="fine-tune").id
    assert [each.id for each in account.files.list()] == [train]
    wrong = refused(openai.PermissionDeniedError, lambda: account.files.content(train))
    assert wrong.startswith(f"{STRANGER} may not create finetunejobs in namespace ")


def test_the_page_lets_an_account_in_by_its_token(
    account: OpenAI, allow: Callable[..., None], admin: Kubectl, control_plane: ControlPlane, namespace: str
) -> None:
    admin("-n", namespace, "create", "serviceaccount", "cook")
    resource, cook = "finetunejobs.finetune.dev", f"system:serviceaccount:{namespace}:cook"
    admin("-n", namespace, "create", "role", "look", f"--resource={resource}", "--verb=get", "--verb=list")
    admin("-n", namespace, "create", "rolebinding", "look", "--role=look", f"--serviceaccount={namespace}:cook")
    control_plane.until_allowed(cook, "list", "finetunejobs", "finetune.dev", namespace)
    token = admin("-n", namespace, "create", "token", "cook").strip()

    page = f"{str(account.base_url).removesuffix('/v1/')}/ui"
    with httpx.Client(trust_env=False) as browser:
        nobody = browser.post(f"{page}/login", data={"secret": "token-of-nobody"})
        assert nobody.status_code == 401
        assert "and no token of the cluster" in nobody.text
        stranger = browser.post(f"{page}/login", data={"secret": TOKEN})
        assert stranger.status_code == 403
        assert f"{STRANGER} may not list finetunejobs in namespace default" in stranger.text
        # The page has a field for it, and no client.
        assert "or name another namespace." in stranger.text
        assert not browser.cookies
        # A person's token opens what the person may see, whichever namespace is named.
        named = {"secret": TOKEN, "namespace": namespace}
        shut = browser.post(f"{page}/login", data=named)
        assert f"{STRANGER} may not list finetunejobs in namespace {namespace}" in shut.text
        assert f'value="{namespace}"' in shut.text
        odd = browser.post(f"{page}/login", data=named | {"namespace": "../x"})
        assert (odd.status_code, "is no name of a namespace" in odd.text) == (400, True)
        allow("finetunejobs.finetune.dev", "get", "list", "create")
        allow("engines.finetune.dev", "list")
        assert browser.post(f"{page}/login", data=named).headers["location"] == "/ui/"
        assert f"namespace {namespace}" in browser.get(f"{page}/").text
        # What the page asks of the API by itself is asked of that namespace, too.
        assert "There are no rows here yet" in browser.get(f"{page}/new").text
        browser.cookies.clear()
        assert browser.post(f"{page}/login", data={"secret": token}).headers["location"] == "/ui/"
        jobs = browser.get(f"{page}/").text
    assert f"namespace {namespace}" in jobs
    assert "There is no job here yet." in jobs
    # It may look, and no more.
    assert "New job" not in jobs
    assert {each["objectRef"]["resource"] for each in control_plane.calls(cook)} >= {"selfsubjectreviews"}


def test_a_token_opens_nothing_where_they_are_not_let_in(client: OpenAI, allow: Callable[..., None]) -> None:
    allow("finetunejobs.finetune.dev", "get", "list")
    wrong = refused(openai.AuthenticationError, lambda: client.with_options(api_key=TOKEN).files.list())
    assert wrong.startswith("The key is not known here: send the key")


@pytest.fixture
def limited(client: OpenAI, keys: Keyring, namespace: str) -> Callable[..., OpenAI]:
    """The client with another key, whose entry has limits."""

    def give(**limits: int) -> OpenAI:
        key = f"sk-limited-{'-'.join(limits)}"
        digest = sha256(key.encode()).hexdigest()
        keys.write("-".join(limits), json.dumps({"sha256": digest, "namespace": namespace, "limits": limits}))
        return client.with_options(api_key=key)

    return give


def test_a_key_may_ask_so_often_a_minute(limited: Callable[..., OpenAI], client: OpenAI) -> None:
    few = limited(requestsPerMinute=2)
    first = few.models.with_raw_response.list().headers
    names = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
    assert [first[name] for name in names] == ["2", "1", "30s"]
    with pytest.raises(openai.NotFoundError) as lost:
        few.files.retrieve("file-1")
    assert lost.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    with pytest.raises(openai.RateLimitError) as found:
        few.models.list()
    # The first one comes back half a minute after it was taken; test_limits has the numbers, by a clock of its own.
    wait = found.value.response.headers["retry-after"]
    assert 0 < int(wait) <= 30
    assert found.value.response.json()["error"] == {
        "message": f"More than 2 requests a minute: try again in {wait} s.",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert client.models.list().data


def test_a_key_has_so_many_jobs_at_once(limited: Callable[..., OpenAI], client: OpenAI, told: Told, train: str) -> None:
    jobs = limited(jobs=1).fine_tuning.jobs
    create = lambda: jobs.create(model=BASE, training_file=train)  # noqa: E731
    # Those of another key don't count.
    client.fine_tuning.jobs.create(model=BASE, training_file=train)
    first = create()
    full = (
        "1 of this key's jobs are under way, and it may have 1 at once: wait until one has ended, or cancel or pause "
        "one."
    )
    assert refused(openai.RateLimitError, create) == full
    jobs.pause(first.id)
    second = create()
    assert refused(openai.RateLimitError, lambda: jobs.resume(first.id)) == full
    told.serves(second.id, "http://127.0.0.1:9")
    assert jobs.resume(first.id).status == "validating_files"


def test_another_replica_counts_what_is_there_and_its_own_requests(
    limited: Callable[..., OpenAI], control_plane: ControlPlane, keys: Keyring, train: str
) -> None:
    few = limited(jobs=1, files=2)
    few.fine_tuning.jobs.create(model=BASE, training_file=train)
    settings = openai_server.settings("s3://data/openai", keys.directory)
    with openai_server.serving(control_plane, settings) as url:
        other = few.with_options(base_url=url)
        told = refused(openai.RateLimitError, lambda: other.fine_tuning.jobs.create(model=BASE, training_file=train))
        assert told.startswith("1 of this key's jobs are under way, and it may have 1 at once")
        upload = lambda: other.files.create(file=("a.jsonl", rows(CHAT)), purpose="fine-tune")  # noqa: E731
        upload()
        assert refused(openai.RateLimitError, upload).startswith(
            "2 files are kept, and this key may add to no more than 2"
        )
        # A minute's only request, in each.
        seldom = limited(requestsPerMinute=1)
        assert [each.models.list().object for each in (seldom, seldom.with_options(base_url=url))] == ["list"] * 2


def test_a_namespace_keeps_so_many_files(limited: Callable[..., OpenAI], client: OpenAI, train: str) -> None:
    few = limited(files=1)
    upload = lambda: few.files.create(file=("a.jsonl", rows(CHAT)), purpose="fine-tune")  # noqa: E731
    wrong = refused(openai.RateLimitError, upload)
    assert wrong == "1 files are kept, and this key may add to no more than 1: delete files that no job needs."
    few.files.delete(train)
    assert upload().status == "processed"


def test_a_list_reads_no_more_files_than_it_shows(client: OpenAI, bucket: Bucket, namespace: str) -> None:
    """One that can't be read stands behind the page."""
    bucket.put(f"data/openai/{namespace}/file-{'0' * 32}.json", b"{")
    made = client.files.create(file=("a.jsonl", rows(CHAT)), purpose="fine-tune")
    newest = client.files.list(limit=1)
    assert (newest.data, newest.has_more) == ([made], True)


def test_an_upload_that_does_not_come_holds_no_place(
    control_plane: ControlPlane, place: str, keys: Keyring, namespace: str
) -> None:
    settings = openai_server.settings(place, keys.directory, uploads=1, upload_seconds=3)
    with openai_server.serving(control_plane, settings) as found:
        address = httpx.URL(found)
        head = (
            f"POST /v1/files HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 1000\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
        )
        with socket.create_connection((address.host, address.port or 0), timeout=PATIENCE) as slow:
            slow.sendall(head.encode())
            said = "The request has not come whole within 3 s, which is as long as one may take here."
            answer = ""
            # It comes in as many pieces as it was written in.
            while said not in answer and (piece := slow.recv(65536)):
                answer += piece.decode()
        assert answer.startswith("HTTP/1.1 408 ")
        assert said in answer
        with OpenAI(base_url=found, api_key=KEY, max_retries=0) as client:
            assert client.files.create(file=("a.jsonl", rows(CHAT)), purpose="fine-tune").status == "processed"
