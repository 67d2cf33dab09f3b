"""A real headless Chromium for the tests of pages, with patience where the machine is busy."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, expect, sync_playwright

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
