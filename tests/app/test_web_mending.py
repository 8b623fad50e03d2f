"""The page "Mend labels" over real connections: what it writes, for whom, and what it says where it does not."""

import re
import threading

import pytest
import requests

from app import web
from stages.library.common import tables
from tests import mended
from tests.serving import serving

OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def corner(tmp_path):
    return mended.Corner(tmp_path)


@pytest.fixture
def url(corner):
    with corner.served() as address:
        yield f"{address}/mend"


def send(url, headers=OWN, **fields):
    fields = {"kind": "label_issues", "part": "1", **fields}
    return requests.post(url, fields, headers=headers, timeout=60, allow_redirects=False)


def hidden(text):
    """The form that takes a decision back."""
    form = text.partition('class="done"')[2].partition("</form>")[0]
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', form)) | {"action": "undo"}


def test_a_decision_is_written_shown_and_taken_back(url, corner):
    key = corner.keys[0]
    answer = send(url, key=key, action="relabel", label="dog")
    assert answer.status_code == 200
    assert corner.rows() == [(key, "relabel", "dog")]
    (row,) = tables.read_csv(corner.path)
    assert row["note"] == "likely label errors"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["when"])
    assert "to be dog" in answer.text
    page = requests.get(url, timeout=60).text
    assert page.count('class="tile decided"') == 1
    assert "30, 1 decided" in re.sub("<[^>]*>", "", page)
    assert "to be dog" in requests.get(f"{url}?kind=decided", timeout=60).text
    answer = send(url, **hidden(answer.text))
    assert (answer.status_code, corner.rows()) == (200, [])
    assert "Keep cat" in answer.text


def test_to_be_what_it_is_is_kept_and_drop_needs_no_label(url, corner):
    cat, dog, *_ = corner.keys
    send(url, key=cat, action="relabel", label=" cat ")
    send(url, key=dog, action="drop", label="dog")
    assert corner.rows() == [(cat, "keep", ""), (dog, "drop", "")]


def test_a_plain_form_leads_back_to_its_page(url, corner):
    answer = send(url, key=corner.keys[0], action="keep", part="", page="2")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"mend?kind=label_issues&page=2#{corner.keys[0]}")
    assert corner.rows() == [(corner.keys[0], "keep", "")]


def test_pages_have_24_images_and_begin_at_the_first_that_is_open(url, corner):
    text = requests.get(url, timeout=60).text
    assert text.count('class="tile"') == 24
    assert "page 1 of 2" in text
    assert "&lt;i&gt;emu" in text
    assert "<i>emu" not in text
    for key in corner.keys[:24]:
        send(url, key=key, action="keep")
    assert "page 2 of 2" in requests.get(url, timeout=60).text
    assert "page 1 of 2" in requests.get(f"{url}?page=1", timeout=60).text
    for odd in ("page=99999", "page=-1", "page=x", "page=\u00b2", "kind=../../etc", "page=9999999999999"):
        assert requests.get(f"{url}?{odd}", timeout=60).status_code == 200, odd


def test_a_label_that_no_longer_exists_is_rejected_and_an_old_one_is_said(url, corner):
    key = corner.keys[0]
    answer = send(url, key=key, action="relabel", label="wolf")
    assert answer.status_code == 400
    assert "There is no class &#39;wolf&#39; in this data set." in answer.text
    assert corner.rows() == []
    with corner.path.open("a", encoding="utf-8") as file:
        file.write(f"{key},relabel,wolf,2026-01-31T23:59:59Z,\n")
    text = requests.get(url, timeout=60).text
    assert "There is no class wolf any more, so dvc repro stops here." in text
    assert send(url, **hidden(text)).status_code == 200
    assert corner.rows() == []


def test_an_undo_in_a_window_that_is_behind_says_so_and_changes_nothing(url, corner):
    key = corner.keys[0]
    mine = send(url, key=key, action="drop").text
    send(url, key=key, action="keep")
    answer = send(url, **hidden(mine))
    assert answer.status_code == 409
    assert "Another window has changed this since" in answer.text
    assert "kept" in answer.text
    assert corner.rows() == [(key, "drop", ""), (key, "keep", "")]


def test_windows_at_once_lose_nothing(url, corner):
    keys = corner.keys[:30]
    parts = [threading.Thread(target=lambda part=part: [send(url, key=key, action="drop") for key in part])
             for part in (keys[::2], keys[1::2])]  # fmt: skip
    for part in parts:
        part.start()
    for part in parts:
        part.join()
    assert sorted(corner.rows()) == sorted((key, "drop", "") for key in keys)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "{own}"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "file://"}, 403),
        ({"Origin": "{own}"}, 200),
        (OWN, 200),
        (OWN | {"Host": "evil.example"}, 400),
        (OWN | {"Content-Type": "text/plain"}, 400),
        (OWN | {"X-Forwarded-For": "192.0.2.1"}, 404),
    ],
)
def test_only_the_page_itself_may_change_anything(url, corner, headers, status):
    given = {name: value.format(own=url.removesuffix("/mend")) for name, value in headers.items()}
    assert send(url, given, key=corner.keys[0], action="drop").status_code == status
    assert len(corner.rows()) == (status == 200)


def test_what_a_proxy_has_passed_on_is_answered_where_it_was_asked_for(corner):
    with corner.served(for_others=True) as address:
        headers = OWN | {"X-Forwarded-For": "192.0.2.1"}
        assert send(f"{address}/mend", headers, key=corner.keys[0], action="drop").status_code == 200
        assert requests.get(f"{address}/mend", headers=headers, timeout=60).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [{"kind": "x"}, {"key": "f" * 64}, {"key": "../x"}, {"action": "burn"}, {"note": "x" * 20_000}, {"action": "undo"}],
)
def test_forms_that_the_page_does_not_send_are_rejected(url, corner, fields):
    assert send(url, **{"key": corner.keys[0], "action": "keep"} | fields).status_code in (400, 409)
    assert corner.rows() == []
    many = requests.post(url, "&".join(f"a{number}=1" for number in range(99)), headers=OWN, timeout=60)
    assert many.status_code == 400


def test_a_damaged_file_is_said_without_the_folders_of_the_machine(url, corner):
    corner.path.write_text("nonsense\n", encoding="utf-8")
    for answer in (requests.get(url, timeout=60), send(url, key=corner.keys[0], action="keep")):
        assert "Corrections.csv, line 1: the columns sha256" in answer.text
        assert str(corner.path.parent) not in answer.text
    assert corner.path.read_text(encoding="utf-8") == "nonsense\n"


def test_without_it_there_is_no_such_page():
    with serving() as (url, _):
        assert requests.get(f"{url}/mend", timeout=60).status_code == 404
        assert "Mend labels" not in requests.get(url, timeout=60).text
    assert [web.is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9")] == [True] * 4
    assert [web.is_loopback(host) for host in ("0.0.0.0", "::", "192.168.1.2", "pc.example")] == [False] * 4
