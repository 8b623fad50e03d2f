"""How the web page looks and is used, by eye and by keyboard, on phones and in users' own colours."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.library.common import tensorflow_runtime
from tests import browsing, serving
from tests.browsing import settled, watched

pytestmark = browsing.needs_browser
PHONE, DESKTOP = {"width": 375, "height": 667}, {"width": 1280, "height": 800}
SCHEMES = [{"color_scheme": "light"}, {"color_scheme": "dark"}]
DROP = """([names, text]) => {
    const holder = new DataTransfer();
    for (const name of names) holder.items.add(new File([name], name, { type: "image/png" }));
    if (text) holder.setData("text/uri-list", text);
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: holder, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def browser():
    with browsing.launched() as found:
        yield found


@pytest.fixture(scope="module")
def url():
    tensorflow_runtime.start()  # for longer than a request may take, on a busy machine
    with serving.serving() as (address, models):
        models.heat_map = lambda inputs, label: [np.full((2, 2), 0.5 + label / 2, np.float32)]
        yield f"{address}/"


@pytest.fixture
def image(tmp_path):
    (tmp_path / "white.png").write_bytes(serving.png())
    return tmp_path / "white.png"


def answered(page, image):
    page.set_input_files("input[name=image]", image)
    return settled(page)


def top(page, selector):
    """Returns where an element begins on the page, which may be scrolling to the answer."""
    return page.locator(selector).first.evaluate("each => each.getBoundingClientRect().top + scrollY")


def test_on_a_phone_the_bars_come_first_and_the_image_stands_once(browser, url, image):
    with watched(browser, url, viewport=PHONE, is_mobile=True) as page:
        result = answered(page, image)
        assert top(page, ".bars") - top(page, "#result") < 150
        assert top(page, ".bars") < top(page, ".figures")
        assert not page.locator("#preview").is_visible()
        assert result.get_by_alt_text("The image", exact=True).is_visible()
        assert top(page, ".figures figure:nth-child(1)") == top(page, ".figures figure:nth-child(2)")  # side by side
    with watched(browser, url, viewport=DESKTOP) as page:
        answered(page, image)
        assert page.locator("#preview").is_visible()


def test_a_heat_maps_button_says_of_what_and_keeps_the_focus(browser, url, image):
    with watched(browser, url) as page:
        answered(page, image)
        for name in ("dark", "<b>bright"):
            button = page.get_by_role("button", name=f"heat map of {name}", exact=True)
            button.focus()
            page.keyboard.press("Enter")
            settled(page, f"#heat-map[alt$='evidence for {name}']")
            assert button.get_attribute("aria-pressed") == "true"
            assert button.evaluate("button => button === document.activeElement")


def test_back_shows_the_last_answer_again(browser, url, image):
    with watched(browser, url) as page:
        before = answered(page, image).inner_text()
        page.get_by_role("link", name="Leaderboard").click()
        page.wait_for_url("**/leaderboard")
        page.go_back()
        result = settled(page)
        assert result.inner_text().replace("heat map", "").split() == before.replace("heat map", "").split()
        for button in result.get_by_role("button").all():  # those that are there have an image to send
            button.click()
            assert settled(page).locator("[role=alert]").count() == 0
        page.goto(url)  # a new visit begins anew
        assert page.locator("#result h2").count() == 0


def test_what_is_not_taken_of_what_is_dropped_is_said(browser, url):
    with watched(browser, url) as page:
        note = page.locator("#note")
        assert not note.is_visible()
        page.evaluate(DROP, [[], "https://elsewhere.example/cat.jpg"])
        assert note.inner_text().startswith("No file was dropped. Save an image of another page first")
        page.evaluate(DROP, [["a.png"], ""])
        page.wait_for_selector("#note", state="hidden")


def test_several_images_are_a_table_sorted_and_kept_as_csv(browser, url, tmp_path):
    for name, value in (("=a.png", 255), ("b.png", 51), ("c.png", 204)):
        (tmp_path / name).write_bytes(serving.png(value))
    (tmp_path / "d.png").write_text("no image")
    files = [tmp_path / name for name in ("=a.png", "b.png", "c.png", "d.png")]
    with watched(browser, url) as page:
        page.set_input_files("input[name=image]", files[:3])
        page.get_by_role("button", name="Download CSV").wait_for()
        rows = page.locator("#result tbody tr")
        assert rows.all_inner_texts() == [
            "\t=a.png\t<b>bright\t1.0000", "\tb.png\tdark\t0.8000", "\tc.png\t<b>bright\t0.8000"
        ]  # fmt: skip
        heading = page.get_by_role("button", name="class", exact=True)
        for order, first in (("ascending", "=a.png"), ("descending", "b.png")):
            heading.press("Enter")
            assert page.locator("th[aria-sort]").get_attribute("aria-sort") == order
            assert first in rows.first.inner_text()
        with page.expect_download() as started:
            page.get_by_role("button", name="Download CSV").click()
        lines = Path(started.value.path()).read_text(encoding="utf-8").splitlines()
        assert lines[:2] == ['"file","class","probability"', '"b.png","dark","0.8"']
        assert '"\'=a.png","<b>bright","1"' in lines
        page.select_option("select[name=beside]", index=1)
        page.get_by_role("button", name="Download CSV").wait_for()
        assert rows.first.inner_text() == "\t=a.png\t<b>bright\t1.0000\t<b>bright\t1.0000"
        page.get_by_role("button", name="b.png").click()  # all of one
        page.wait_for_selector("#result.beside [data-model] + [data-model] h2")
        assert page.locator("#result h2").all_inner_texts() == ["dark 80.0%"] * 2
    with contextlib.closing(browser.new_page()) as page:  # whose console has what the server rejected
        page.goto(url)
        page.set_input_files("input[name=image]", files[2:])
        page.get_by_role("button", name="Download CSV").wait_for()
        assert "not an image" in page.locator("#result tbody tr").last.inner_text()


def test_another_models_answer_stands_beside_with_heat_maps_of_its_own(browser, url, image):
    with watched(browser, url, viewport=DESKTOP) as page:
        answered(page, image)
        page.select_option("select[name=beside]", index=1)
        parts = page.locator("#result.beside > [data-model]")
        page.wait_for_selector("#result.beside > [data-model] + [data-model]")
        page.wait_for_selector("#result:not(.waiting)")
        assert top(page, "[data-model]:nth-child(1)") == top(page, "[data-model]:nth-child(2)")
        assert page.evaluate("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size"
                             " === document.querySelectorAll('[id]').length")  # fmt: skip
        parts.nth(1).get_by_role("button", name="heat map of dark").click()
        page.wait_for_selector("[data-model] + [data-model] [alt$='evidence for dark']")
        assert parts.nth(0).locator("[alt$='evidence for <b>bright']").count() == 1
        page.select_option("select[name=beside]", "")
        page.wait_for_selector("#result:not(.beside)")


def test_a_photo_of_the_camera_is_classified(browser, url):
    with watched(browser, url, permissions=["camera"]) as page:
        page.get_by_role("button", name="Take a photo").click()
        page.get_by_role("button", name="Take", exact=True).click()
        assert "photo.png" in settled(page, "#result h2, #result [role=alert]").inner_text()
        assert not page.evaluate("document.querySelector('#camera').open")


def shades(page, selector):
    """How many different colours an element is painted in, but for its edges."""
    with Image.open(io.BytesIO(page.locator(selector).first.screenshot()), formats=("PNG",)) as shot:
        middle = np.asarray(shot.convert("RGB"))[shot.height // 2, 8:-8]
    return len(np.unique(middle, axis=0))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_bars_and_the_legend_are_seen_in_the_users_own_colours(browser, url, tmp_path, scheme):
    (tmp_path / "grey.png").write_bytes(serving.png(150))
    with watched(browser, url, forced_colors="active", **scheme) as page:
        answered(page, tmp_path / "grey.png")
        assert shades(page, ".bars progress") > 1
        assert shades(page, ".legend i") > 50


def test_the_dark_scheme_is_dark(browser, url, image):
    def ground(page):
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return [int(part) for part in colour.strip("rgb()").split(",")]

    with watched(browser, url, color_scheme="dark") as page:
        assert max(ground(page)) < 64
    with watched(browser, url, color_scheme="light") as page:
        assert min(ground(page)) == 255


def test_a_wide_table_is_scrolled_by_the_keyboard(browser, tmp_path):
    from stages.library.report import page as report_page

    table = report_page._table(["model", *map(str, range(40))], [["a wide cell"] * 41])
    (tmp_path / "page.html").write_text(f"<style>{report_page.CSS}</style>{report_page._scroll(table, 'Models')}")
    with watched(browser, (tmp_path / "page.html").as_uri(), viewport=PHONE) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Models"
        page.keyboard.press("ArrowRight")
        page.wait_for_function("document.activeElement.scrollLeft > 0")


@browsing.needs_axe
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP])
def test_axe_finds_nothing_wrong_with_the_pages(browser, url, image, scheme, viewport):
    with watched(browser, url, viewport=viewport, **scheme) as page:
        assert browsing.violations(page) == []
        answered(page, image)
        assert browsing.violations(page) == []
        page.evaluate(DROP, [[], "https://elsewhere.example/cat.jpg"])
        assert browsing.violations(page) == []
        page.goto(f"{url}leaderboard")
        assert browsing.violations(page) == []
