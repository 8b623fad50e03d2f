"""Labels mended as people do it, in Debian's chromium: by one key, by touch, without scripts, in their own colours."""

import pytest

from tests import browsing, mended
from tests.browsing import watched

pytestmark = browsing.needs_browser
PHONE, DESKTOP = {"width": 375, "height": 667}, {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def browser():
    with browsing.launched() as found:
        yield found


@pytest.fixture
def corner(tmp_path):
    return mended.Corner(tmp_path)


@pytest.fixture
def url(corner):
    with corner.served() as address:
        yield f"{address}/"


def opened(page):
    page.get_by_role("link", name="Mend labels").click()
    page.wait_for_selector(".scripted .tile")
    return page


def focused(page, key):
    page.wait_for_selector(f".tile[data-key='{key}']:focus-within")


def decided(page, *keys):
    """Waits until exactly these are decided."""
    for key in keys:
        page.wait_for_selector(f".decided[data-key='{key}']")
    page.locator(f".decided >> nth={len(keys)}").wait_for(state="detached")


def test_one_key_decides_and_another_takes_it_back(browser, url, corner):
    cat, dog, emu, last, *_ = corner.keys
    with watched(browser, url, viewport=DESKTOP) as page:
        opened(page).keyboard.press("ArrowDown")
        focused(page, cat)
        page.keyboard.press("r")
        decided(page, cat)
        page.wait_for_selector("#said:has-text('cat: to be dog')", state="attached")
        focused(page, dog)
        page.keyboard.press("k")
        decided(page, cat, dog)
        page.keyboard.press("d")
        decided(page, cat, dog, emu)
        assert corner.rows() == [(cat, "relabel", "dog"), (dog, "keep", ""), (emu, "drop", "")]
        page.keyboard.press("u")
        decided(page, cat, dog)
        focused(page, emu)
        page.keyboard.press("u")
        decided(page, cat)
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        focused(page, last)
        page.keyboard.press("c")
        page.keyboard.type(mended.CLASSES[2])  # letters, in a field of text
        page.keyboard.press("Enter")
        decided(page, cat, last)
        assert corner.rows() == [(cat, "relabel", "dog"), (last, "relabel", mended.CLASSES[2])]


def test_a_window_that_is_behind_shows_what_another_one_did_and_a_wrong_class_is_said(browser, url, corner):
    cat = corner.keys[0]
    with browser.new_page() as one, browser.new_page() as other:
        for page in (one, other):
            page.goto(f"{url}mend")
            page.keyboard.press("ArrowDown")
        one.keyboard.press("d")
        decided(one, cat)
        other.keyboard.press("k")
        decided(other, cat)
        focused(other, corner.keys[1])
        one.locator(".decided button").press("u")
        one.wait_for_selector(".tile [role=alert]:has-text('Another window has changed this')")
        assert one.locator(".decided .state").inner_text() == "kept"
        other.keyboard.press("c")
        other.keyboard.type("dork")
        other.keyboard.press("Enter")
        other.wait_for_selector(".tile [role=alert]:has-text(\"There is no class 'dork' in this data set.\")")
    assert corner.rows() == [(cat, "drop", ""), (cat, "keep", "")]


@pytest.mark.slow
def test_without_scripts_and_by_touch(browser, url, corner):
    with watched(browser, url, java_script_enabled=False) as page:
        page.get_by_role("link", name="Mend labels").click()
        page.get_by_role("button", name="It is dog").first.click()
        page.wait_for_selector(".decided")
        page.get_by_role("button", name="Undo").click()
        page.locator(".decided").wait_for(state="detached")
    assert corner.rows() == []
    with watched(browser, url, viewport=PHONE, is_mobile=True, has_touch=True) as page:
        opened(page).get_by_role("button", name="Drop").first.tap()
        decided(page, corner.keys[0])
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        boxes = [button.bounding_box() for button in page.locator(".tile button").all()]
        assert min(box["height"] for box in boxes) >= 44


@browsing.needs_axe
@pytest.mark.parametrize("scheme", [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"forced_colors": "active"}])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP])
def test_axe_finds_nothing_wrong(browser, url, scheme, viewport):
    with watched(browser, url, viewport=viewport, **scheme) as page:
        opened(page).keyboard.press("ArrowDown")
        page.keyboard.press("d")
        page.wait_for_selector(".decided")
        for kind in ("label_issues", "decided", "near_duplicates", "mistakes"):
            assert browsing.violations(page) == []
            page.goto(f"{url}mend?kind={kind}")
        assert browsing.violations(page) == []
