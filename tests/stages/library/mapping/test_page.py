"""The page of the map: safe against names, readable in any scheme, and used by mouse, touch and keyboard."""

import base64
import hashlib
import json
import re

import numpy as np
import pytest

from stages.library.figures import thumbnails
from stages.library.mapping import page, tiles
from stages.library.mapping.page import Colouring
from tests import browsing
from tests.stages.library.mapping.test_tiles import encoded

HOSTILE = '</script><script>document.title="taken"</script><img src=x onerror=alert(1)>"&\u202e\u2028'
NAMES = [f"{HOSTILE}{index}.png" for index in range(9)] + ["no\udcff\n.png"]
PLACES = np.array([[x / 2, y / 2] for y in range(3) for x in range(3)] + [[0.5, 0.75]])


def rendered(count=10):
    images = [encoded(np.full((8, 8, 3), 20 * index)) for index in range(count)]
    kind = np.arange(count)
    colourings = [
        Colouring("Class", [HOSTILE, "dog", "emu"], kind % 3),
        Colouring("Mistake", ["no", "yes", "not predicted"], (kind == 4).astype(int), quiet=0),
    ]
    said = [f"{HOSTILE}, 9{index % 2}.0%" for index in range(count)]
    sheets = tiles.write(lambda: images, count, 8)
    return page.render(f"Map: {HOSTILE}", HOSTILE, NAMES[:count], PLACES[:count], colourings, said, sheets)


@pytest.fixture(scope="module")
def html():
    return rendered()


def test_names_are_data_and_nothing_else(html):
    assert html.encode()  # a lone surrogate could not be
    assert html.count("<script") == html.count("</script>") == 2
    assert "<img" not in html
    (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert block.isascii()
    data = json.loads(block)
    assert data["names"] == NAMES
    assert data["colourings"][0]["categories"][0] == HOSTILE
    assert [data["predictions"]["texts"][of] for of in data["predictions"]["of"]][1] == f"{HOSTILE}, 91.0%"
    assert np.column_stack([data["x"], data["y"]]) / data["one"] == pytest.approx(PLACES)
    assert base64.b64decode(data["sheets"][0])[:3] == b"\xff\xd8\xff"


def test_the_policy_lets_the_own_script_run_and_no_other_and_no_request_go_out(html):
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', html)
    rules = dict(rule.split(" ", 1) for rule in policy.replace("&#x27;", "'").split("; "))
    for name, element in (("script-src", "script"), ("style-src", "style")):
        (text,) = re.findall(rf"<{element}>(.*?)</{element}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules.pop(name) == f"'sha256-{digest}'"
    assert rules == {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'"}


def luminance(colour):
    """Of WCAG 2."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_points_stand_out_from_the_ground_in_both_schemes():
    schemes = page.CSS.split("@media (prefers-color-scheme: dark)")
    for text, ground in zip(schemes, ("#ffffff", "#15191d"), strict=True):
        (colours,) = re.findall(r"--colours: (.*?);", text)
        (quiet,) = re.findall(r"--quiet: (.*?);", text)
        for colour in [*colours.split(), quiet]:
            dark, light = sorted((luminance(ground), luminance(colour)))
            assert (light + 0.05) / (dark + 0.05) >= 3, colour


def test_neighbours_on_the_map_follow_each_other():
    places = np.random.default_rng(0).random((500, 2))
    rows = page.order(places)
    assert sorted(rows) == list(range(500))
    steps = np.linalg.norm(np.diff(places[rows], axis=0), axis=1)
    assert steps.mean() < 0.15 < np.linalg.norm(np.diff(places, axis=0), axis=1).mean()
    assert page.order(np.array([[1.0, 1.0], [0, 0], [0.6, 0], [0, 0.6]])).tolist() == [1, 2, 3, 0]


@pytest.fixture(scope="module")
def browser():
    with browsing.launched() as found:
        yield found


@pytest.fixture
def url(html, tmp_path):
    (tmp_path / "map.html").write_text(html, encoding="utf-8")
    return (tmp_path / "map.html").as_uri()


def shown(page):
    """The rows of what is shown of an image."""
    names, values = (page.locator(f"#facts {each}").all_text_contents() for each in ("dt", "dd"))
    return dict(zip(names, values, strict=True))


def settle(page):
    """Waits until the page is drawn: its policy forbids what Playwright's own waiting does."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def centre(page):
    box = page.locator("#frame").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@browsing.needs_browser
def test_an_image_is_shown_by_pointing_by_keys_and_by_a_tap(browser, url):
    with browsing.watched(browser, url, viewport={"width": 1000, "height": 700}) as page:
        assert page.title().startswith("Map: </script>")
        page.mouse.move(*centre(page))
        assert shown(page) == {
            "File": NAMES[4],
            "Class": "dog",
            "Mistake": "yes",
            "Prediction": f"{HOSTILE}, 90.0%",
        }
        page.mouse.move(0, 0)
        assert shown(page) == {}
        page.focus("#frame")
        for key, index in (("ArrowUp", 4), ("ArrowUp", 1), ("ArrowRight", 2), ("+", 2), ("ArrowDown", 5)):
            page.keyboard.press(key)
            assert shown(page)["File"] == NAMES[index]
        assert page.locator("#picture").get_attribute("aria-label") == NAMES[5]
        page.evaluate("sheets[0].decode()")
        settle(page)
        assert page.evaluate("byId('picture').getContext('2d').getImageData(99, 99, 1, 1).data[0]") == pytest.approx(
            100, abs=9
        )
        page.keyboard.press("Escape")
        assert shown(page) == {}
        page.select_option("#by", "Mistake")
        assert page.locator("#legend button").all_text_contents() == ["●no9", "■yes1"]
        page.click("#legend button >> nth=1")
        assert page.locator("#legend [aria-pressed=true] .name").all_text_contents() == ["yes"]
    with browsing.watched(browser, url, viewport={"width": 375, "height": 667}, has_touch=True) as page:
        page.touchscreen.tap(*centre(page))
        assert shown(page)["File"] == NAMES[4]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@browsing.needs_browser
def test_two_fingers_zoom_and_one_moves_the_map(browser, url):
    with browsing.watched(browser, url, viewport={"width": 375, "height": 667}, is_mobile=True, has_touch=True) as page:
        session = page.context.new_cdp_session(page)

        def touch(kind, *places):
            points = [{"x": x, "y": y, "id": index} for index, (x, y) in enumerate(places)]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        def state():
            return page.evaluate("[view.scale, view.x, view.y, pinned]")

        scale, *_ = state()
        touch("touchStart", (150, 300))
        touch("touchStart", (150, 300), (200, 300))
        touch("touchMove", (125, 300), (225, 300))
        touch("touchEnd")
        closer, x, y, pinned = state()
        assert (closer, pinned) == (pytest.approx(2 * scale, rel=0.01), -1)
        touch("touchStart", (150, 300))
        for step in (10, 20, 40):
            touch("touchMove", (150 + step, 300 - step))
        touch("touchEnd")
        assert state()[:1] + state()[3:] == [closer, -1]
        assert (state()[1] > x + 20, state()[2] < y - 20) == (True, True)


@browsing.needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_points_are_drawn_in_the_colours_of_the_scheme_and_follow_the_wheel(browser, url, scheme):
    with browsing.watched(browser, url, color_scheme=scheme, viewport={"width": 1000, "height": 700}) as page:
        ground, middle = page.evaluate("[ground, style('--colours').split(' ')[1]]")
        x, y = map(round, centre(page))

        def colour(right):
            settle(page)
            pixels = thumbnails.decode(page.screenshot())
            return f"#{pixels[y, x + right].tobytes().hex()}"

        assert (colour(0), colour(22)) == (middle, ground)
        page.mouse.move(x, y)
        page.mouse.wheel(0, -600)
        page.mouse.move(0, 0)
        assert colour(22) == middle  # the frame of a picture
        page.click("#whole")
        assert (colour(0), colour(22)) == (middle, ground)


@browsing.needs_browser
@browsing.needs_axe
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong_with_the_map(browser, url, scheme):
    with browsing.watched(browser, url, color_scheme=scheme, bypass_csp=True) as page:
        page.focus("#frame")
        page.keyboard.press("ArrowUp")
        assert browsing.violations(page) == []
