"""The generated pages of docs/: up to date, and complete."""

import runpy
from pathlib import Path

import pytest
from finetune_operator.conditions import MEANINGS, REASONS, Reason, Type
from finetune_trainer.contract.outcome import Outcome
from paths import ROOT
from pictures import made_from, note

PAGES: dict[Path, str] = runpy.run_path(str(ROOT / "hack/gen_docs.py"))["pages"]()


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_the_committed_page_is_what_the_code_says(path: Path) -> None:
    assert (ROOT / path).read_text() == PAGES[path], f"{path} is out of date: run `make docs` and commit it"


def test_every_condition_and_every_reason_is_explained() -> None:
    assert set(MEANINGS) == set(Type)
    assert set(REASONS) == set(Reason)


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome != Outcome.SUCCEEDED])
def test_a_reader_of_a_failed_stage_finds_its_reason_on_both_pages(outcome: Outcome) -> None:
    row = f"| {outcome.exit.code} | `{outcome.exit.reason}` | {'yes' if outcome.exit.retry else 'no'} |"
    assert row in PAGES[Path("docs/exit-codes.md")]
    assert f"| `{outcome.exit.reason}` |" in PAGES[Path("docs/conditions.md")]


def test_the_pictures_show_the_page_as_it_is() -> None:
    how = "FINETUNE_SCREENSHOTS=docs pytest tests/report/test_page.py"
    assert note(ROOT / "docs").read_text() == made_from(), f"docs/web-page-*.png show another page: {how}, and commit"
