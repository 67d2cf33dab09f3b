"""A real headless Chromium for the tests of pages, with patience where the machine is busy."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

# Milliseconds. It costs nothing where what is looked for comes.
PATIENCE = 120_000


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser of this machine. What is expected of a page may take a while to come, here and from now on."""
    program = shutil.which("chromium")
    assert program, "chromium is not on PATH; `make report` installs Debian's"
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        # Chromium's sandbox refuses root; the pages are our own.
        yield playwright.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=PATIENCE)


@contextmanager
def visitor(browser: Browser, **options: Any) -> Iterator[BrowserContext]:
    """Somebody with a browser of their own, who waits as long for what they click, fill in and go to."""
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE)
    try:
        yield context
    finally:
        context.close()
