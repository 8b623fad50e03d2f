"""Makes report.png of the README and web.png of docs/web.md, from the checkout in the current folder.

It must be trained (`dvc repro`); needs chromium and the packages of requirements-dev.txt.

example: python docs/images/make.py
"""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
REPORT = Path("artifacts/report/index.html")
CHROMIUM = os.environ.get("DECANT_CHROMIUM", "/usr/bin/chromium")
HEIGHT, REPORT_WIDTH, WEB_WIDTH = 860, 1300, 1300  # px
WAIT_MS = 120_000


def main() -> None:
    """Writes both images beside this script."""
    if not REPORT.is_file():
        sys.exit(f"error: {REPORT} must be there. Run: dvc repro")
    with sync_playwright() as playwright, server() as url:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": REPORT_WIDTH, "height": HEIGHT})
        page.set_default_timeout(WAIT_MS)
        page.goto(REPORT.resolve().as_uri())
        save(page, "report.png", to_selector="#mistakes")
        page.set_viewport_size({"width": WEB_WIDTH, "height": HEIGHT})
        page.goto(url)
        page.locator(".examples label").nth(3).click()
        page.wait_for_selector("#result h2")
        page.wait_for_selector("#result:not(.waiting)")
        save(page, "web.png", to_selector="main")
        browser.close()
    print("Look at both, and: git diff --stat docs/images")


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Runs the web page of this checkout; yields its address."""
    command = [sys.executable, "-m", "app.web", "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - no shell
        assert process.stdout
        found = re.search(r"open (\S+) in", process.stdout.readline())
        if not found:
            sys.exit("error: the web page did not start")
        yield found[1]
        process.send_signal(signal.SIGINT)


def save(page: Page, name: str, to_selector: str) -> None:
    """Writes the page from its top to the end of an element."""
    box = page.locator(to_selector).first.bounding_box()
    assert box
    whole = io.BytesIO(page.screenshot(full_page=True))
    with Image.open(whole, formats=("PNG",)) as shot:
        image = shot.convert("RGB").crop((0, 0, shot.width, round(box["y"] + box["height"]) + 16))
        if name == "report.png":  # flat colours, but for the edges of letters
            image = image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        image.save(HERE / name, optimize=True)
    print(f"{HERE / name}: {(HERE / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
