"""The report as its readers see it, in a real headless Chromium: layout facts, not pixels."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from browsing import chromium, visitor
from decisions import decision
from finetune_trainer.evaluation.page import render
from playwright.sync_api import Browser, Page

PHONE, DESK = 360, 1280
SECTIONS = ["ship", "better", "training", "requests", "worse", "forgotten", "next", "how"]
# Web Content Accessibility Guidelines 2.2, level AA.
CONTRAST = 4.5
# What is painted behind an element: of the nearest ancestor that paints at all.
COLOURS = """element => {
  let behind = element;
  while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
  return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Opens the report from its file."""
    path = tmp_path / "report.html"
    path.write_text(render(decision()))
    opened = ExitStack()

    def page(width: int, scheme: Any = "light") -> Page:
        # The page needs no script of its own, which its policy forbids; ours has to look at it.
        options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme, "bypass_csp": True}
        shown = opened.enter_context(visitor(browser, **options)).new_page()
        shown.goto(path.as_uri())
        return shown

    with opened:
        yield page


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_it_fits_the_screen(show: Callable[..., Page], width: int, tmp_path: Path) -> None:
    page = show(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.screenshot(path=tmp_path / f"report-{width}.png", full_page=True)


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_every_section_is_seen_in_order(show: Callable[..., Page], width: int) -> None:
    page = show(width)
    boxes = [page.locator(f"section#{name}").bounding_box() for name in SECTIONS]
    tops = [box["y"] for box in boxes if box and box["height"] > 40]
    assert len(tops) == len(SECTIONS)
    assert tops == sorted(tops)


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_charts_stay_within_their_sections(show: Callable[..., Page], width: int) -> None:
    page = show(width)
    outside = page.evaluate(
        """() => [...document.querySelectorAll('.span, .dot, .bar, svg')].filter(mark => {
          const [inner, outer] = [mark, mark.closest('section')].map(each => each.getBoundingClientRect());
          return inner.left < outer.left || inner.right > outer.right || inner.height === 0;
        }).length"""
    )
    assert outside == 0


def test_what_is_wider_than_a_phone_scrolls_by_itself_and_its_caption_does_not(show: Callable[..., Page]) -> None:
    page = show(PHONE)
    for table in page.locator("table").all():
        assert table.evaluate("table => getComputedStyle(table.parentElement).overflowX") == "auto"
    for caption in page.locator(".caption, figcaption").all():
        box = caption.bounding_box()
        assert box
        assert box["x"] + box["width"] <= PHONE


def test_answers_stand_side_by_side_where_there_is_room(show: Callable[..., Page]) -> None:
    def columns(width: int) -> int:
        answers = show(width).locator("details[open] dl > div")
        return len(set(answers.evaluate_all("all => all.map(each => each.getBoundingClientRect().left)")))

    assert (columns(PHONE), columns(DESK)) == (1, 3)


def test_the_best_score_stands_furthest_right(show: Callable[..., Page]) -> None:
    dots = show(DESK).locator(".dot").evaluate_all("dots => dots.map(dot => dot.getBoundingClientRect().left)")
    tuned, zero_shot, few_shot, retrieval = dots
    assert zero_shot < few_shot < retrieval < tuned


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_light_and_dark(show: Callable[..., Page], scheme: str) -> None:
    page = show(DESK, scheme)
    for what in (
        "body",
        "header p",
        ".badge",
        ".headline",
        "figcaption",
        ".caption",
        "td",
        ".value",
        ".quiet",
        "summary",
        "dd",
    ):
        ink, paper = (luminance(colour) for colour in page.locator(what).first.evaluate(COLOURS))
        contrast = (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05)
        assert contrast >= CONTRAST, (what, scheme, contrast)


def test_dark_is_dark(show: Callable[..., Page]) -> None:
    papers = [show(DESK, scheme).locator("body").evaluate(COLOURS)[1] for scheme in ("light", "dark")]
    light, dark = (luminance(paper) for paper in papers)
    assert light > 0.8
    assert dark < 0.1


def test_it_asks_nobody_for_anything_and_complains_of_nothing(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(decision()))
    with visitor(browser, java_script_enabled=False) as context:
        page = context.new_page()
        asked: list[str] = []
        said: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto(path.as_uri())
        assert page.locator("h2").count() == len(SECTIONS)
        assert asked == [path.as_uri()]
        assert said == []


def luminance(colour: str) -> float:
    """WCAG's relative luminance of `rgb(…)`."""
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
