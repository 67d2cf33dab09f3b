"""The web page of a laptop in a real headless Chromium: each page is walked, acted on, and looked at by axe."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import laptop_pages
import pictures
import pytest
import yaml
from browsing import chromium, visitor
from finetune_cli.main import app
from finetune_cli.ui import application
from finetune_operator.api.v1alpha1 import FineTuneJob
from finetune_operator.names import revision_of
from listening import listening
from paths import EXAMPLES, ROOT
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect
from statuses import serving, status, training
from tutorials import fields
from typer.testing import CliRunner

TOKEN, PORT = "the-token", 8080
PHONE, DESK = 360, 1280
AXE = Path(__file__).parent / "axe" / "axe.min.js"
# Where screenshots of the docs are written to; left out, nowhere that lasts.
SHOTS = os.environ.get("FINETUNE_SCREENSHOTS")
HTML = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'&{{7*7}}"


@dataclass
class Ground:
    """The directory, its page, and the runs that are under way."""

    directory: Path
    address: str
    running: dict[str, "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """recipes serves, labels trains, strange holds HTML in every text."""
    directory = tmp_path_factory.mktemp("kitchen")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.chdir(directory)
        laptop_pages.write_rows(directory)
        revisions = {name: laptop_pages.configure(directory, name) for name in ("recipes", "labels")}
        laptop_pages.check(directory, "recipes")
        root = directory / ".finetune" / "recipes" / revisions["recipes"]
        laptop_pages.learn(root, 120)
        told = serving() | {"revision": revisions["recipes"], "servedRevision": revisions["recipes"]}
        told["evaluation"] = told["evaluation"] | {"report": laptop_pages.report(root).as_uri()}
        told["endpoint"] = {"url": stack.enter_context(laptop_pages.engine()), "model": "recipes"}
        laptop_pages.write(directory, "recipes", told)
        laptop_pages.write(directory, "labels", trains(revisions["labels"]))
        laptop_pages.write(directory, "strange", odd())
        running = {name: stack.enter_context(laptop_pages.held(directory, name)) for name in ("recipes", "labels")}
        address = stack.enter_context(listening(application(directory, TOKEN, PORT)))
        yield Ground(directory, f"{address}/ui", running)


def trains(revision: str) -> dict[str, Any]:
    """Half of the steps of this revision are done."""
    told = training()
    eta = (datetime.now(UTC) + timedelta(seconds=130)).isoformat()
    return told | {"revision": revision, "progress": told["progress"] | {"eta": eta}}


def odd() -> dict[str, Any]:
    """A status whose texts are all HTML."""
    every = dict.fromkeys(("Accepted", "DataReady", "Trained", "Evaluated", "Ready"), ("False", HTML, HTML))
    told = serving()
    told["evaluation"] = told["evaluation"] | {
        "metric": HTML,
        "reason": HTML,
        "metricSummary": HTML,
        "baselines": {HTML: "0.1"},
    }
    changed = status("Failed", every, history=[{"revision": HTML, "outcome": HTML, "metric": HTML}])
    trial = {"number": 1, "parameters": {HTML: "1"}, "outcome": HTML, "message": HTML}
    return {**told, **changed, "trials": [trial], "tracking": {"type": "mlflow", "url": HTML}, "endpoint": None}


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    with visitor(browser, viewport={"width": DESK, "height": 900}) as found:
        yield found


@pytest.fixture
def complaints(context: BrowserContext) -> list[str]:
    """What the browser says of the pages: of its policy, of scripts, of what is missing."""
    said: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        # The status of an answer is the test's own matter.
        if message.type in ("error", "warning") and "the server responded with a status" not in message.text:
            said.append(message.text)

    context.on("console", heard)
    context.on("weberror", lambda error: said.append(str(error.error)))
    context.on("dialog", lambda dialog: said.append(dialog.message))
    return said


@pytest.fixture
def page(context: BrowserContext, ground: Ground, complaints: list[str]) -> Iterator[Page]:
    """Let in by the address that `finetune ui` prints."""
    found = context.new_page()
    found.goto(f"{ground.address}/?token={TOKEN}")
    yield found
    assert complaints == []


def test_without_the_token_nobody_is_let_in(context: BrowserContext, ground: Ground) -> None:
    page = context.new_page()
    for path in ("/", "/jobs/recipes", "/new", "/compare", "/jobs/recipes/chat", "/jobs/recipes/report"):
        page.goto(f"{ground.address}{path}")
        expect(page).to_have_url(f"{ground.address}/login")
        expect(page.get_by_text("recipes")).to_have_count(0)
    page.get_by_label("The token").fill("another")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("The token is not the one of this finetune ui")
    page.get_by_label("The token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="recipes")).to_be_visible()
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/ui")
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{ground.address}/login")
    assert context.cookies() == []


def test_the_token_does_not_stay_in_the_address(page: Page, ground: Ground) -> None:
    expect(page).to_have_url(f"{ground.address}/")


def test_a_name_that_a_site_has_chosen_for_this_machine_opens_nothing(context: BrowserContext, ground: Ground) -> None:
    answer = context.request.get(f"{ground.address}/?token={TOKEN}", headers={"Host": "evil.example.com"})
    assert answer.status == 400


def test_the_list_tells_how_far_each_is_and_goes_on_telling(page: Page, ground: Ground) -> None:
    labels = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="labels"))
    expect(labels).to_contain_text("step 40/120")
    expect(labels.get_by_role("progressbar")).to_have_attribute("value", "33")
    told = trains(revision(ground, "labels"))
    laptop_pages.write(ground.directory, "labels", told | {"progress": told["progress"] | {"step": 60}})
    expect(labels).to_contain_text("step 60/120")
    expect(labels.get_by_role("progressbar")).to_have_attribute("value", "50")
    shot(page, "web-page-jobs", 400)


def revision(ground: Ground, name: str) -> str:
    (found,) = (ground.directory / ".finetune" / name).glob("*/run.json")
    return found.parent.name


def test_a_jobs_page_has_all_that_is_known_of_it(page: Page) -> None:
    page.get_by_role("link", name="recipes").click()
    expect(page.get_by_role("status")).to_have_text("Serving")
    expect(page.get_by_text("120 steps of 16 rows")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="DataReady")).to_contain_text("900 rows to train on.")
    expect(page.get_by_role("row", name=re.compile("^tuned 0.925"))).to_be_visible()
    expect(page.get_by_text("Training loss 1.905 at step 1, 0.286 at step 120.")).to_be_visible()
    expect(page.locator(".chart canvas")).to_be_visible()
    learned = page.locator("section", has=page.get_by_role("heading", name="Its data")).locator("mark")
    expect(learned.first).to_be_visible()
    assert "eggs <|im_end|>" in " ".join(learned.all_inner_texts())
    expect(page.get_by_text("file://", exact=False).first).to_be_visible()
    page.get_by_role("link", name="The report").click()
    expect(page.get_by_role("heading", name="Should you ship it?")).to_be_visible()


def test_losses_are_drawn_as_they_come(page: Page, ground: Ground) -> None:
    page.goto(f"{ground.address}/jobs/labels")
    told = trains(revision(ground, "labels"))
    for step, loss in ((50, "0.4000"), (70, "0.3000")):
        laptop_pages.write(
            ground.directory, "labels", told | {"progress": told["progress"] | {"step": step, "loss": loss}}
        )
        expect(page.get_by_text(f"{float(loss):.3f} at step {step}.")).to_be_visible()
    # uPlot's legend has the newest point's values once it is pointed at.
    expect(page.locator(".chart canvas")).to_be_visible()
    box = page.locator(".chart .u-over").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 20)
    expect(page.locator(".u-legend")).to_contain_text("0.3")


def test_what_somebody_is_about_to_do_stays_under_the_fingers(page: Page, ground: Ground) -> None:
    page.goto(f"{ground.address}/jobs/labels")
    cancel = page.get_by_role("link", name="Cancel")
    cancel.focus()
    told = trains(revision(ground, "labels"))
    laptop_pages.write(ground.directory, "labels", told | {"progress": told["progress"] | {"step": 90}})
    expect(page.get_by_text("step 90/120")).to_be_visible()
    expect(cancel).to_be_focused()


def test_a_run_is_cancelled_once_that_is_confirmed(page: Page, ground: Ground) -> None:
    with laptop_pages.held(ground.directory, "passing") as process:
        laptop_pages.write(ground.directory, "passing", training())
        page.goto(f"{ground.address}/jobs/passing")
        page.get_by_role("link", name="Cancel").click()
        expect(page.get_by_text("End the run of passing")).to_be_visible()
        page.get_by_role("link", name="Leave it").click()
        assert process.poll() is None
        page.get_by_role("link", name="Cancel").click()
        page.get_by_role("button", name="Cancel").click()
        assert process.wait(120) == 0
        expect(page.get_by_role("status")).to_have_text("Suspended")
        expect(page.get_by_role("link", name="Cancel")).to_have_count(0)
    shutil.rmtree(ground.directory / ".finetune" / "passing")


def test_what_another_site_sends_is_not_done(page: Page, ground: Ground) -> None:
    url = f"{ground.address}/jobs/labels/do/cancel"
    for form in ({"csrf": "guessed"}, {}):
        answer = page.request.post(url, form=form)
        assert answer.status == 403
        assert "another login" in answer.text()
    word = page.goto(url) and page.locator("input[name=csrf]").first.input_value()
    answer = page.request.post(url, form={"csrf": word}, headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status, "another site" in answer.text()) == (403, True)
    assert ground.running["labels"].poll() is None


def fill(page: Page, **fields: str) -> None:
    for label, text in fields.items():
        page.get_by_label(label.replace("_", " ")).fill(text)


def test_what_is_wrong_with_a_form_stands_beside_its_field(page: Page) -> None:
    page.get_by_role("link", name="New job").click()
    fill(page, Base_model="org/model", Rows_to_learn_from="file://nowhere.jsonl", Epochs="many")
    page.get_by_role("button", name="Show the manifest").click()
    for label, sentence in {
        "Name": "metadata.name: is required",
        "Base model": "spec.model.source: must be",
        "Epochs": "spec.training.epochs: must be",
    }.items():
        field = page.get_by_label(label)
        expect(field).to_have_attribute("aria-invalid", "true")
        beside = (field.get_attribute("aria-describedby") or "").split()[-1]
        expect(page.locator(f"#{beside}")).to_contain_text(sentence)
    expect(page.get_by_label("Epochs")).to_have_value("many")
    fill(page, Name="soup", Base_model="file://model", Epochs="2")
    page.get_by_role("button", name="Show the manifest").click()
    expect(page.locator("#e-train")).to_contain_text("nowhere.jsonl can't be read")


def test_a_form_becomes_a_manifest_that_is_shown_downloaded_and_run(page: Page, ground: Ground) -> None:
    page.get_by_role("link", name="New job").click()
    fill(page, Name="soup", Base_model="file://absent", Rows_to_learn_from="file://train.jsonl", Epochs="2")
    page.get_by_role("button", name="Show the manifest").click()
    manifest = yaml.safe_load(page.get_by_role("region", name="As YAML").inner_text())
    assert manifest["metadata"] == {"name": "soup"}
    assert manifest["spec"] == {
        "model": {"source": "file://absent"},
        "dataset": {"train": {"source": "file://train.jsonl"}},
        "training": {"epochs": 2},
    }
    assert not (ground.directory / "soup.yaml").exists()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download it").click()
    assert download.value.suggested_filename == "soup.yaml"
    assert yaml.safe_load(download.value.path().read_text()) == manifest
    page.get_by_role("button", name="Apply it").click()
    expect(page).to_have_url(f"{ground.address}/jobs/soup")
    assert yaml.safe_load((ground.directory / "soup.yaml").read_text()) == manifest
    expect(page.get_by_role("status")).to_have_text("Failed")
    expect(page.get_by_role("link", name="Resume")).to_be_visible()
    page.goto(f"{ground.address}/new?name=soup&model=file://model&train=file://train.jsonl")
    page.get_by_role("button", name="Apply it").click()
    expect(page.locator("#e-name")).to_have_text("soup.yaml is there already: choose another name.")


def test_what_a_tutorial_says_to_fill_in_makes_what_it_says_to_import(page: Page, ground: Ground) -> None:
    (ground.directory.parent / "recipe-assistant").symlink_to(EXAMPLES / "recipe-assistant")
    page.get_by_role("link", name="New job").click()
    for label, value in fields("autotrain", "The web form").items():
        page.get_by_label(label).fill(value)
    page.get_by_role("button", name="Show the manifest").click()
    filled = FineTuneJob.model_validate(yaml.safe_load(page.get_by_role("region", name="As YAML").inner_text()))
    told = CliRunner().invoke(app, ["import", str(EXAMPLES / "autotrain/config.yml")])
    imported = FineTuneJob.model_validate(yaml.safe_load(told.stdout))
    assert revision_of(filled.spec) == revision_of(imported.spec)
    assert imported.spec.training.tracking
    training = imported.spec.training.model_copy(update={"tracking": None})
    same = imported.model_copy(update={"spec": imported.spec.model_copy(update={"training": training})})
    assert filled.model_dump() == same.model_dump()


def test_two_jobs_stand_side_by_side(page: Page) -> None:
    page.get_by_role("link", name="Compare").click()
    page.get_by_label("One").select_option("recipes")
    page.get_by_label("The other").select_option("labels")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("row", name=re.compile("epochs 3.* 5"))).to_be_visible()
    left, right = (page.get_by_role("region", name=name, exact=True).bounding_box() for name in ("recipes", "labels"))
    assert left
    assert right
    assert left["y"] == right["y"]
    assert left["x"] < right["x"]
    expect(page.get_by_label("One")).to_have_value("recipes")


def test_both_models_answer_side_by_side(page: Page) -> None:
    page.get_by_role("link", name="recipes").click()
    page.get_by_role("link", name="Chat").click()
    for number, question in enumerate(("Pancakes?", HTML)):
        page.get_by_label("Your question").fill(question)
        page.get_by_role("button", name="Ask both").click()
        turn = page.get_by_role("article").nth(number)
        for model in ("recipes", "recipes-base"):
            expect(turn).to_contain_text(f"{model} was asked {2 * number + 1}: {question}")
        expect(page.get_by_label("Your question")).to_have_value("")


def test_texts_are_texts_whatever_stands_in_them(page: Page, ground: Ground) -> None:
    page.goto(f"{ground.address}/jobs/strange")
    expect(page.get_by_text(HTML).first).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert page.locator("main img, main script").count() == 0
    page.goto(f"{ground.address}/compare?first=strange&second=recipes")
    assert page.locator("main img, main script").count() == 0
    page.goto(f"{ground.address}/new?name={HTML}".replace("#", "%23"))
    assert page.locator("main img, main script").count() == 0
    page.goto(f"{ground.address}/jobs/<script>alert(1)<%2Fscript>")
    assert page.locator("main script").count() == 0


PAGES: dict[str, Callable[[Page], object]] = {
    "/login": lambda page: None,
    "/": lambda page: None,
    "/jobs/recipes": lambda page: page.locator("figure.row").first.wait_for(),
    "/jobs/strange": lambda page: None,
    "/jobs/labels/do/cancel": lambda page: None,
    "/compare?first=recipes&second=labels": lambda page: None,
    "/new": lambda page: page.get_by_role("button", name="Show").click(),
    "/jobs/recipes/chat": lambda page: None,
    "/jobs/nowhere": lambda page: None,
}


NARROW = ("/", "/jobs/recipes", "/compare?first=recipes&second=labels", "/new")


@pytest.mark.parametrize(("width", "scheme", "paths"), [(DESK, "light", tuple(PAGES)), (PHONE, "dark", NARROW)])
def test_it_can_be_used_by_everybody(
    browser: Browser, ground: Ground, width: int, scheme: Any, paths: tuple[str, ...]
) -> None:
    """axe's rules, WCAG 2.2 AA and what is good practice besides; and nothing is wider than the screen."""
    options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme, "bypass_csp": True}
    with visitor(browser, **options) as context:
        page = context.new_page()
        page.goto(f"{ground.address}/?token={TOKEN}")
        for path in paths:
            page.goto(f"{ground.address}{path}")
            PAGES[path](page)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            page.add_script_tag(path=AXE)
            found = page.evaluate("axe.run({resultTypes: ['violations'], preload: false})")
            assert [f"{each['id']}: {each['nodes'][0]['html']}" for each in found["violations"]] == [], path


def test_a_keyboard_is_enough(page: Page, ground: Ground) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(2):
        page.keyboard.press("Tab")
    # labels, recipes: the list is by name.
    focused = page.evaluate("document.activeElement.textContent")
    assert focused == "recipes"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="recipes", level=1)).to_be_visible()
    shot(page, "web-page-job", 900)


def test_without_scripts_everything_is_there(browser: Browser, ground: Ground) -> None:
    with visitor(browser, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{ground.address}/?token={TOKEN}")
        page.get_by_role("link", name="recipes").click()
        expect(page.get_by_text("Training loss 1.905 at step 1")).to_be_visible()
        page.get_by_role("link", name="What its rows are like").click()
        expect(page.locator("mark").first).to_be_visible()
        page.goto(f"{ground.address}/jobs/recipes/chat")
        page.get_by_label("Your question").fill("Pancakes?")
        page.get_by_role("button", name="Ask both").click()
        expect(page.get_by_role("article")).to_contain_text("recipes-base was asked")


def shot(page: Page, name: str, height: int) -> None:
    """A picture for the docs."""
    if SHOTS:
        page.wait_for_load_state("load")
        # The runs that the page shows are where the tests stand.
        directory = ROOT / SHOTS
        page.screenshot(path=directory / f"{name}.png", clip={"x": 0, "y": 0, "width": DESK, "height": height})
        pictures.note(directory).write_text(pictures.made_from())
