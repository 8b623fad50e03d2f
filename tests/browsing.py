"""Debian's chromium, driven by Playwright, for tests of pages as people see them."""

import contextlib
import os
from pathlib import Path

import pytest

CHROMIUM = Path(os.environ.get("DECANT_CHROMIUM", "/usr/bin/chromium"))
# Without these, chromium itself looks for its maker's hosts.
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # with a picture that moves
WAIT_MS = 120_000
# axe.min.js of the npm package axe-core, which finds what keeps people from using a page.
AXE = os.environ.get("DECANT_AXE")
RUN_AXE = "axe.run(document).then(found => found.violations.map(one => one.id + ': ' + one.nodes[0].html))"

needs_browser = pytest.mark.skipif(
    not CHROMIUM.is_file() and not os.environ.get("DECANT_REQUIRE_BROWSER"),
    reason=f"no {CHROMIUM}: apt-get install chromium, or set DECANT_CHROMIUM to another one",
)
needs_axe = pytest.mark.skipif(not AXE, reason="no axe-core: npm pack axe-core, and set DECANT_AXE to its axe.min.js")


@contextlib.contextmanager
def launched():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", *QUIET, *CAMERA]
        )
        yield browser
        browser.close()


@contextlib.contextmanager
def watched(browser, url, **options):
    """A page that must log no error and ask no other host."""
    troubles: list[str] = []
    own = (url, "data:", "blob:")
    with contextlib.closing(browser.new_context(**options)) as context:
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda said: troubles.extend([said.text] if said.type in ("error", "warning") else []))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda asked: troubles.extend([] if asked.url.startswith(own) else [asked.url]))
        page.goto(url)
        yield page
    assert troubles == [], troubles


def settled(page, selector="#result h2"):
    page.wait_for_selector(selector)
    page.wait_for_selector("#result:not(.waiting)")
    return page.locator("#result")


def violations(page):
    """What axe-core finds wrong with a page as it is."""
    page.evaluate(Path(AXE or "").read_text(encoding="utf-8"))
    return page.evaluate(RUN_AXE)
