"""The web page as people use it: in Debian's chromium, driven by Playwright, against one server."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import skimage.data
import trained
from conftest import ROOT
from PIL import Image

from tests import browsing
from tests.browsing import settled, watched

START_SECONDS = 300
UPLOAD_MB = 20

pytestmark = [pytest.mark.slow, browsing.needs_browser]


@pytest.fixture(scope="module")
def url(trained_project, tmp_path_factory):
    """Where `python -m app.web` answers, as a user starts it."""
    log = tmp_path_factory.mktemp("web") / "log"
    command = [sys.executable, "-m", "app.web", "--port", "0", "--no-open", "--project", str(trained_project)]
    environment = os.environ | {"DECANT_CACHE": str(trained_project / "cache")}
    with log.open("wb") as out, subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out) as server:
        end = time.monotonic() + START_SECONDS
        while not (found := re.search(r"web: open (http://127\.0\.0\.1:\d+/) in a browser", log.read_text())):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end
            time.sleep(0.1)
        yield found[1]
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
    assert log.read_text().count("\n") == 1, log.read_text()  # no traceback, no error


@pytest.fixture(scope="module")
def browser():
    with browsing.launched() as found:
        yield found


@pytest.fixture
def page(browser, url):
    with watched(browser, url, viewport={"width": 1280, "height": 900}) as opened:
        yield opened


@pytest.fixture
def emu(trained_project):
    return trained_project / "data" / "pictures" / "emu" / "0.png"


def test_upload_answers_with_classes_heat_map_and_similar_images_by_any_model(page, emu):
    page.set_input_files("input[name=image]", emu)
    result = settled(page)
    assert result.locator("h2").inner_text().startswith("emu ")
    assert "0.png, 40 x 40 px" in result.inner_text()
    bars = result.locator(".bars li")
    values = [float(bar.get_attribute("value")) for bar in bars.locator("progress").all()]
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1, abs=1e-3)  # there are three classes
    assert sorted(bars.locator(".name").all_inner_texts()) == ["cat", "dog", "emu"]
    similar = result.locator(".neighbours figcaption").all_inner_texts()
    assert len(similar) == 6
    assert [text.split()[0] for text in similar].count("emu") >= 5
    assert page.locator("#preview").is_visible()
    # Then another model is chosen for the same image.
    for name in ("ridge", "xgboost", "finetuned"):
        page.select_option("select[name=model]", f"{trained.BACKBONE}/{name}")
        result = settled(page, f"#result:has-text('by {trained.BACKBONE}/{name}')")
        assert (result.locator(".bars button").count() == 3) == (name != "xgboost")
        # Trees have none, and the page says why. Of the others, tiny as they are, some find nothing to show.
        reasons = {"xgboost": "decision trees answer in steps"}.get(name, "nothing in the image speaks for")
        assert result.locator("#heat-map").count() or reasons in result.locator("#no-heat-map").inner_text()
        assert not (name == "xgboost" and result.locator("#heat-map").count())
    for name in ("combined/average", "combined/finetuned/stacking"):
        page.select_option("select[name=model]", name)
        assert settled(page, f"#result:has-text('by {name}')").locator(".neighbours figcaption").count() == 6
    page.select_option("select[name=model]", "scratch")
    assert f"features by {trained.BACKBONE}" in settled(page, "#result:has-text('by scratch')").inner_text()
    page.select_option("select[name=model]", f"imagenet/{trained.BACKBONE}")
    assert settled(page, "#result:has-text('by imagenet')").locator(".bars li").count() == 5


def test_another_class_has_another_heat_map(page, tmp_path):
    Image.fromarray(skimage.data.chelsea()).save(tmp_path / "cat.png")
    page.select_option("select[name=model]", f"imagenet/{trained.BACKBONE}")
    page.set_input_files("input[name=image]", tmp_path / "cat.png")
    settled(page)
    shown = set()
    for name in ("tiger cat", "Egyptian cat"):
        page.get_by_title(f"Show where the evidence for {name} lies").click()
        settled(page, f"#heat-map[alt$='evidence for {name}']")
        assert page.locator(".bars [aria-pressed]").get_attribute("title").endswith(f"for {name} lies")
        shown.add(page.locator("#heat-map").get_attribute("src"))
    assert len(shown) == 2


def test_paste_and_drop(page, emu):
    give = """([kind, bytes]) => {
        const holder = new DataTransfer();
        holder.items.add(new File([new Uint8Array(bytes)], kind + ".png", { type: "image/png" }));
        const event = kind === "paste"
            ? new ClipboardEvent("paste", { clipboardData: holder, bubbles: true })
            : new DragEvent("drop", { dataTransfer: holder, bubbles: true, cancelable: true });
        document.body.dispatchEvent(event);
    }"""
    for kind in ("paste", "drop"):
        page.evaluate(give, [kind, list(emu.read_bytes())])
        assert settled(page, f"#result:has-text('{kind}.png')").locator("h2").inner_text().startswith("emu ")


def test_what_is_no_image_or_too_large_is_rejected_in_words_and_an_example_is_answered(page, tmp_path):
    (tmp_path / "holiday.jpg").write_text("not an image at all")
    page.set_input_files("input[name=image]", tmp_path / "holiday.jpg")
    result = settled(page, "#result [role=alert]")
    assert "No image that can be used: not an image." in result.inner_text()
    assert "holiday.jpg" in result.inner_text()
    example = page.locator(".examples label").first  # which then takes the file's place
    kind = example.locator("img").get_attribute("alt")
    example.click()
    assert f"A test image of class {kind}, 40 x 40 px" in settled(page).inner_text()
    assert not page.locator("#preview").is_visible()
    sent = []
    page.on("request", lambda request: sent.append(request.url))
    (tmp_path / "large.png").write_bytes(bytes(30_000_000))
    page.set_input_files("input[name=image]", tmp_path / "large.png")
    said = settled(page, "#result [role=alert]").inner_text()
    assert said == f"This file is too large: 30 MB. At most {UPLOAD_MB} MB, please."
    assert not [address for address in sent if not address.startswith("blob:")]


@pytest.mark.parametrize("width_px", [320, 360])
def test_a_narrow_phone_needs_no_horizontal_scrolling(browser, url, width_px, tmp_path):
    options = {"viewport": {"width": width_px, "height": 640}, "is_mobile": True, "has_touch": True}
    with watched(browser, url, **options) as page:
        page.locator(".examples label").first.tap()
        settled(page)
        page.screenshot(path=tmp_path / "phone.png", full_page=True)
        with Image.open(tmp_path / "phone.png", formats=("PNG",)) as image:
            assert image.width == width_px
        for address in (url, f"{url}leaderboard"):
            assert page.evaluate("document.documentElement.scrollWidth") == width_px
            page.goto(address)
        page.wait_for_function("scrollY === 0")
        assert page.evaluate("document.documentElement.scrollWidth") == width_px


def test_the_leaderboard_has_all_models_and_their_confusions(page):
    page.get_by_role("link", name="Leaderboard").click()
    page.wait_for_selector("table")
    rows = page.locator("[aria-label=Leaderboard] tbody tr").all_inner_texts()
    combined = ["combined/average", "combined/finetuned/stacking", "combined/stacking"]
    own = [f"{trained.BACKBONE}/{name}" for name in ("dnn", "finetuned", "ridge", "xgboost")]
    assert sorted(row.split()[0] for row in rows) == [*combined, *own, "scratch"]
    assert page.evaluate("document.querySelector('table').scrollWidth <= document.querySelector('.scroll').clientWidth")
    assert page.locator("details table.confusion").count() == 8
    cell = page.locator("details[open] .confusion td a").first
    number, said = cell.inner_text(), cell.get_attribute("aria-label")
    assert said.startswith(f"{number}: ")
    cell.click()
    page.wait_for_url("**/images?**")
    assert page.locator("h2").inner_text() == said.removeprefix(f"{number}: ").replace(
        "cat, taken for cat", "cat, classified correctly"
    )
    assert page.locator(".found img").count() == int(number)
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 10)")


def test_without_scripts_the_form_works_by_plain_requests(browser, url, emu):
    with watched(browser, url, java_script_enabled=False) as page:
        page.set_input_files("input[name=image]", emu)
        page.get_by_role("button", name="Classify").click()
        page.wait_for_url(f"{url}classify")
        assert page.locator("#result h2").inner_text().startswith("emu ")
        page.goto(url)
        page.locator(".examples label").last.click()
        page.get_by_role("button", name="Classify").click()
        page.wait_for_selector("#result h2")
        assert "A test image of class" in page.locator("#result").inner_text()


def test_a_server_that_is_gone_is_said(browser, url):
    # Its own page, for the broken request itself is an error in the console.
    with contextlib.closing(browser.new_page()) as page:
        page.goto(url)
        page.route("**/classify", lambda route: route.abort())
        page.locator(".examples label").first.click()
        page.wait_for_selector("#result [role=alert]")
        assert "The server can't be reached." in page.locator("#result").inner_text()


@browsing.needs_axe
@pytest.mark.parametrize("width_px", [375, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong_with_any_page(browser, url, trained_project, width_px, scheme):
    with watched(browser, url, viewport={"width": width_px, "height": 800}, color_scheme=scheme) as page:
        page.locator(".examples label").first.click()
        settled(page)
        assert browsing.violations(page) == []
        page.goto(f"{url}leaderboard")
        assert browsing.violations(page) == []
    report = trained_project / "artifacts" / "report" / "index.html"
    with watched(browser, report.as_uri(), viewport={"width": width_px, "height": 800}, color_scheme=scheme) as page:
        assert browsing.violations(page) == []
        page.get_by_role("link", name=f"{trained.BACKBONE}/ridge").press("Enter")  # which unfolds that model
        assert page.locator("details[open] summary").all_inner_texts() == [f"{trained.BACKBONE}/ridge"]
        assert browsing.violations(page) == []
