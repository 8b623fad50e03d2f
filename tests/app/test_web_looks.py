"""How the web page looks and is used, by eye and by keyboard, on phones and in users' own colours."""

import io

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
        page.evaluate(DROP, [["a.png", "b.png"], ""])
        settled(page, "#result [role=alert]")  # neither is an image
        assert note.inner_text() == "One image at a time: a.png was taken, the first of 2 files."
        page.evaluate(DROP, [[], "https://elsewhere.example/cat.jpg"])
        assert note.inner_text().startswith("No file was dropped. Save an image of another page first")
        page.evaluate(DROP, [["a.png"], ""])
        page.wait_for_selector("#note", state="hidden")


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
