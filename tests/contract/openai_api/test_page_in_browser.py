"""The web page of the API server in a real Chromium, over a real Kubernetes API server with the chart's rights.

What is done on the page is looked at in the FineTuneJob. What all pages look like is in tests/report.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator

import pytest
import yaml
from browsing import chromium, visitor
from control_plane import Kubectl
from openai import OpenAI
from openai_server import BASE, KEY, PLAIN, Engine, Keyring, Told
from paths import EXAMPLES
from playwright.sync_api import Browser, Page, expect
from tutorials import fields, typed

RUNNING = ("Unknown", "Running", "It runs.")
DONE = ("True", "Succeeded", "It is done.")
# The steps that are drawn.
DRAWN = "Array.from(charts.get(document.querySelector('.chart')).data[0])"
PROGRESS = {"stage": "train", "step": 40, "totalSteps": 120, "loss": "0.4200"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """Before the door."""
    with visitor(browser) as context:
        found = context.new_page()
        found.goto(url.replace("/v1", "/ui/"))
        yield found


def log_in(page: Page, key: str = KEY) -> None:
    page.get_by_label("Your key").fill(key)
    page.get_by_role("button", name="Log in").click()


def ask_for(page: Page, file: str, **fields: str) -> None:
    page.get_by_role("link", name="New job").click()
    page.get_by_label("Base model").select_option(PLAIN)
    page.get_by_label("Rows to learn from").select_option(file)
    for label, text in fields.items():
        page.get_by_label(label, exact=True).fill(text)


def made(kubectl: Kubectl) -> list[dict[str, object]]:
    return list(json.loads(kubectl("get", "ftj", "-o", "json"))["items"])


def do(page: Page, action: str) -> None:
    """One that is asked about first."""
    page.get_by_role("link", name=action, exact=True).click()
    expect(page.get_by_role("heading", name=re.compile(f"^{action}: "))).to_be_visible()
    page.get_by_role("button", name=action, exact=True).click()
    expect(page.get_by_role("heading", name="Where it is")).to_be_visible()


def test_a_key_opens_its_namespace_and_no_other_key_does(page: Page) -> None:
    log_in(page, "sk-another")
    expect(page.get_by_role("alert")).to_contain_text("The key is not known here")
    log_in(page)
    expect(page.get_by_text("There is no job here yet.")).to_be_visible()


def test_a_form_becomes_a_finetunejob(page: Page, train: str, kubectl: Kubectl) -> None:
    log_in(page)
    ask_for(page, train, **{"What it is for": "recipes", "Epochs": "many"})
    page.get_by_role("button", name="Apply it").click()
    expect(page.locator("#e-n_epochs")).to_contain_text("n_epochs must be a valid integer")
    assert made(kubectl) == []
    page.get_by_label("Epochs").fill("2")
    page.get_by_label("Learning rate multiplier").fill("2")
    page.get_by_role("button", name="Apply it").click()
    expect(page.locator("#e-learning_rate_multiplier")).to_contain_text("has none for it: leave it out")
    page.get_by_label("Base model").select_option(BASE)
    page.get_by_role("button", name="Show the manifest").click()
    shown = yaml.safe_load(page.get_by_role("region", name="As YAML").inner_text())
    assert made(kubectl) == []
    page.get_by_role("button", name="Apply it").click()
    expect(page.get_by_role("heading", name=re.compile("^recipes-"), level=1)).to_be_visible()
    (job,) = made(kubectl)
    spec = job["spec"]
    assert isinstance(spec, dict)
    assert spec["training"]["epochs"] == shown["spec"]["training"]["epochs"] == 2
    assert spec["training"]["learningRate"] == 4e-4
    assert spec["model"]["source"] == shown["spec"]["model"]["source"] == "hf://acme/small-instruct"
    assert shown["metadata"]["name"].startswith("recipes-")


def test_what_autotrains_tutorial_says_to_upload_and_fill_in_is_a_finetunejob(
    page: Page, url: str, kubectl: Kubectl
) -> None:
    heading = "The web page of a cluster"
    *_, upload = typed("autotrain", heading)
    given = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": KEY, "NO_PROXY": "*"}
    done = subprocess.run(
        ["bash", "-c", upload],
        cwd=EXAMPLES / "autotrain",
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=True,
    )
    log_in(page)
    ask_for(page, json.loads(done.stdout)["id"], **fields("autotrain", heading))
    page.get_by_role("button", name="Apply it").click()
    expect(page.get_by_role("heading", name=re.compile("^recipes-"), level=1)).to_be_visible()
    (job,) = made(kubectl)
    spec = job["spec"]
    assert isinstance(spec, dict)
    assert (spec["training"]["epochs"], spec["training"]["batchSize"]) == (1, 8)


@pytest.fixture
def job(page: Page, train: str, client: OpenAI) -> str:
    """The name of one, whose page is open."""
    name = client.fine_tuning.jobs.create(model=PLAIN, training_file=train).id.removeprefix("ftjob-")
    log_in(page)
    page.get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", name="Where it is")).to_be_visible()
    return name


def test_what_the_operator_tells_is_shown_as_it_is_told(page: Page, job: str, told: Told) -> None:
    conditions = {
        "Accepted": DONE,
        "DataReady": ("True", "Succeeded", "900 rows."),
        "Trained": RUNNING,
        "Ready": RUNNING,
    }
    told.status(job, "Training", conditions, progress=PROGRESS)
    expect(page.get_by_role("status")).to_have_text("Training")
    expect(page.get_by_text("step 40/120")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="DataReady")).to_contain_text("900 rows.")
    expect(page.locator("#data figure mark").first).to_have_text("assistant: flour, eggs")
    expect(page.locator(".chart canvas")).to_be_visible()
    told.status(job, "Training", conditions, progress=PROGRESS | {"step": 80, "loss": "0.2100"})
    expect(page.get_by_text("0.210 at step 80.")).to_be_visible()


def test_whoever_opens_it_late_sees_all_losses_and_so_does_whoever_compares(page: Page, job: str, told: Told) -> None:
    curve = [{"step": step, "loss": f"{40 / step:.4f}"} for step in (10, 20, 40)]
    curve[1]["validationLoss"] = "2.5000"
    whole = "Training loss 4.000 at step 10, 1.000 at step 40. Validation loss is lowest at step 20: 2.500."
    suspended = ("Unknown", "Suspended", "spec.suspend is true.")
    told.status(job, "Suspended", {"Trained": suspended, "Ready": suspended}, curve=curve)
    page.reload()
    expect(page.get_by_text(whole)).to_be_visible()
    # A pod goes on from the checkpoint of step 20.
    running = {"Trained": RUNNING, "Ready": RUNNING}
    told.status(job, "Training", running, curve=curve[:2], progress=PROGRESS | {"step": 21})
    expect(page.get_by_text("Training loss 4.000 at step 10, 0.420 at step 21.")).to_be_visible()
    assert page.evaluate(DRAWN) == [10, 20, 21]
    told.status(job, "Training", running, curve=curve)
    page.goto(page.url.replace(f"/jobs/{job}", f"/compare?first={job}&second={job}"))
    expect(page.get_by_text(whole)).to_have_count(2)


def test_what_is_done_is_done_to_the_finetunejob(page: Page, job: str, told: Told) -> None:
    told.status(job, "Training", {"Trained": RUNNING, "Ready": RUNNING}, progress=PROGRESS)
    do(page, "Suspend")
    assert told.job(job)["spec"]["suspend"] is True
    do(page, "Resume")
    assert told.job(job)["spec"]["suspend"] is False
    do(page, "Cancel")
    assert "finetune.dev/openai-cancelled" in told.job(job)["metadata"]["annotations"]
    expect(page.get_by_role("link", name="Suspend")).to_have_count(0)


def test_revisions_are_promoted_and_rolled_back(page: Page, job: str, told: Told) -> None:
    artifact = {"uri": "pvc://v/a", "digest": "sha256:a", "bytes": 1}
    outcomes = {"bbbb0002": "Serving", "cccc0003": "Rejected", "aaaa0001": "Superseded"}
    history = [{"revision": each, "outcome": outcome, "artifact": artifact} for each, outcome in outcomes.items()]
    told.status(job, "Serving", {"Ready": DONE}, revision="bbbb0002", servedRevision="bbbb0002", history=history)
    page.get_by_role("link", name="Promote").click()
    page.get_by_label("Revision").select_option("cccc0003")
    page.get_by_role("button", name="Promote").click()
    expect(page.get_by_role("link", name="End the promotion")).to_be_visible()
    assert told.job(job)["metadata"]["annotations"]["finetune.dev/promote"] == "cccc0003"
    do(page, "Roll back")
    assert told.job(job)["metadata"]["annotations"]["finetune.dev/promote"] == "aaaa0001"
    do(page, "End the promotion")
    assert "finetune.dev/promote" not in told.job(job)["metadata"]["annotations"]


def test_both_models_answer_through_the_servers_own_routes(
    page: Page, job: str, told: Told, engine: Engine, engine_url: str
) -> None:
    told.serves(job, engine_url)
    page.get_by_role("link", name="Chat").click()
    page.get_by_label("Your question").fill("Pancakes?")
    page.get_by_role("button", name="Ask both").click()
    expect(page.get_by_role("article").get_by_text("flour, eggs")).to_have_count(2)
    assert [asked["model"] for asked in engine.asked] == [job, f"{job}-base"]
    assert all(KEY not in str(headers) and "cookie" not in headers for headers in engine.headers)


def test_a_key_that_may_only_read_shows_and_changes_nothing(
    page: Page, job: str, keys: Keyring, namespace: str, told: Told
) -> None:
    word = page.goto(f"{page.url}/do/cancel") and page.locator("input[name=csrf]").first.input_value()
    here = page.url.removesuffix("/do/cancel")
    page.get_by_role("button", name="Log out").click()
    keys.give("sk-reader", namespace, "read")
    log_in(page, "sk-reader")
    page.get_by_role("link", name=job).click()
    expect(page.get_by_role("heading", name="Where it is")).to_be_visible()
    for what in ("New job", "Cancel", "Suspend", "Chat"):
        expect(page.get_by_role("link", name=what)).to_have_count(0)
    page.goto(f"{here}/do/cancel")
    expect(page.get_by_role("alert")).to_contain_text("You may look, and change nothing")
    assert page.request.post(f"{here}/do/cancel", form={"csrf": word or ""}).status == 403
    page.goto(here.replace(f"/jobs/{job}", "/new"))
    expect(page.get_by_role("button", name="Apply it")).to_have_count(0)
    assert told.job(job)["spec"]["suspend"] is False


def test_another_namespaces_job_is_not_there(page: Page, job: str, keys: Keyring) -> None:
    here = page.url
    page.get_by_role("button", name="Log out").click()
    keys.give("sk-neighbour", "kube-public")
    log_in(page, "sk-neighbour")
    expect(page.get_by_text("There is no job here yet.")).to_be_visible()
    page.goto(here)
    expect(page.get_by_role("alert")).to_have_text(f"No such job: {job}.")


def test_a_key_that_was_taken_back_sees_no_more(page: Page, job: str, keys: Keyring, told: Told) -> None:
    keys.take()
    # However soon a part of the page is asked for anew.
    part = page.request.get(f"{page.url}/data", headers={"Sec-Fetch-Dest": "empty"})
    assert part.status == 401
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("The key is not known here")
    assert page.context.cookies() == []
