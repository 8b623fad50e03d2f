"""What the web page answers and rejects, over real connections, with models that are quick or slow as told."""

import re
from pathlib import Path
from urllib.parse import urljoin

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import web
from app.web_connection import HEADERS
from stages.library.common.console import UserError
from tests.serving import FORM, GET, HEAD, PART, UPLOAD_BYTES, classify, connect, png, serving, shown, until

NO_PAGES = """
    /assets/../web.py /assets/..%2fweb.py /assets/%2e%2e/%2e%2e/params.yaml /assets/....//params.yaml
    /assets//etc/passwd /assets/page.css/../../../../etc/passwd /assets/classify.html /assets/page.css%00.html
    /file=/etc/passwd /gradio_api/file=/etc/passwd //etc/passwd /%2e%2e%2f%2e%2e%2fetc/passwd
    /images /images?model=../../etc/passwd&actual=0 /images?model=scratch&actual=-1&predicted=%00
    /data/tfrecord/dataset.json /params.yaml /classify /docs /openapi.json
    // /nothing/ /leaderboard// //evil.example/ /assets/
"""


@pytest.fixture(scope="module")
def site():
    with serving() as (url, _):
        yield url


def test_an_answer_and_its_headers(site):
    answer = classify(site)
    assert answer.status_code == 200
    assert "<b>bright" not in answer.text  # a class name is no HTML
    assert "&lt;b&gt;bright" in answer.text
    assert "100.0%" in shown(answer)
    assert "No heat map: trees." in shown(answer)
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    for page in ("/", "/leaderboard", "/assets/page.css", "/nothing"):
        assert HEADERS.items() <= requests.get(site + page, timeout=9).headers.items()
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("request_of", "status", "words"),
    [
        ({"files": {"image": png(size_px=(200, 200))}}, 200, "used: more than 0.01 megapixels: 200 x 200 px"),
        ({"files": [(name, (None, "7")) for name in ("model", "label", "example")]}, 200, "paste or drop one first"),
        ({"files": {"image": bytes(UPLOAD_BYTES + 1)}}, 413, "At most 0.2 MB, please."),
        ({"files": {"image": bytes(40 * UPLOAD_BYTES)}}, 413, ""),
        # Of no known length.
        ({"data": lambda: iter([PART, *[bytes(10_000)] * 100]), "headers": FORM}, 413, "too large"),
        *(
            ({"data": b"\x00\xff{", "headers": {"Content-Type": kind}}, 400, "not one that this page sends")
            for kind in ("multipart/form-data", FORM["Content-Type"], "application/json", "", None)
        ),
    ],
)
def test_what_can_not_be_answered_is_rejected_in_words(site, request_of, status, words):
    given = {key: value() if callable(value) else value for key, value in request_of.items()}
    answer = requests.post(f"{site}/classify", timeout=60, **given)
    assert answer.status_code == status
    assert words in shown(answer)
    assert classify(site).status_code == 200


def test_what_takes_too_long_is_given_up_and_its_place_is_free_when_it_ends():
    with serving(request_seconds=0.5, concurrency=1, queue=0) as (url, models):
        models.gate.clear()
        answer = classify(url)
        assert (answer.status_code, "more than 0.5 seconds" in shown(answer)) == (503, True)
        assert "Too many" in shown(classify(url))  # the work can't be interrupted
        models.gate.set()
        until(lambda: classify(url).status_code == 200)
        with connect(url, HEAD + b"Content-Length: 1000\r\n\r\n--x\r\n") as slow:
            assert b" 503 " in slow.recv(100)
        connect(url, HEAD + b"Content-Length: 1000\r\n\r\n").close()
        until(lambda: classify(url).status_code == 200)


@pytest.mark.parametrize("path", NO_PAGES.split())
def test_no_other_address_leads_to_a_file_or_anywhere(site, path):
    request = (GET % path.encode()).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    with connect(site, request) as connection:  # nothing tidies the path up
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()
    assert re.match(r"HTTP/1.1 40[045] ", answer)
    assert not re.search(r"root:|import |dataset:|{%|/work|site-packages|\.py\b", answer)


def test_other_hosts_names_and_other_sites_forms_are_rejected(site):
    assert requests.get(site, headers={"Host": "evil.example"}, timeout=9).status_code == 400
    assert requests.get(site, headers={"Host": "localhost"}, timeout=9).status_code == 200
    assert classify(site, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert classify(site, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/leaderboard/", "../leaderboard"),
        ("/leaderboard/?a=b&c=%2F", "../leaderboard?a=b&c=%2F"),
        ("/classify/", "../classify"),
        ("/assets/page.css/", "../page.css"),
        ("/assets/a%20b%22%0D%0AX:y/", "../a%20b%22%0D%0AX:y"),
    ],
)
def test_a_slash_too_many_leads_to_the_address_without_it_wherever_a_proxy_has_put_the_page(site, path, where):
    ask = requests.post if path == "/classify/" else requests.get
    answer = ask(site + path, allow_redirects=False, timeout=9)
    assert (answer.status_code, answer.headers["Location"]) == (307, where)
    assert HEADERS.items() <= answer.headers.items()
    assert urljoin("https://host/folder" + path, where) == "https://host/folder" + path.replace("/?", "?").rstrip("/")


@pytest.mark.parametrize("error", [UserError("/secret/place is damaged"), RuntimeError("/secret/place")])
def test_errors_show_no_paths_to_strangers(error, capfd, caplog):
    with serving() as (url, models):
        models.error = error
        answer = classify(url)
        until(lambda: "/secret/place" in capfd.readouterr().err + caplog.text)  # logs are pytest's, else the terminal's
        models.error = None
        assert classify(url).status_code == 200
    assert answer.status_code == (200 if isinstance(error, UserError) else 500)
    assert "the terminal of the server says" in shown(answer)
    assert "secret" not in answer.text
    assert HEADERS.items() <= answer.headers.items()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.dictionaries(st.integers(0, len(png()) - 1), st.integers(0, 255), max_size=6),
    tail=st.binary(max_size=40),
    fields=st.dictionaries(st.sampled_from(["model", "label", "example", "other"]), st.text(max_size=20)),
)
def test_fuzzed_uploads_never_break_it(site, changes, tail, fields):
    content = bytes(changes.get(place, byte) for place, byte in enumerate(png())) + tail
    answer = classify(site, content, **fields)
    assert answer.status_code in (200, 400)
    assert "Traceback" not in answer.text


def test_an_address_that_can_not_be_had_is_said(site):
    port = int(site.rsplit(":", 1)[1])
    for host, number, reason in (("nowhere.invalid", 0, "no such address"), ("127.0.0.1", port, "Address already in")):
        with pytest.raises(UserError, match=f"{host} port {number}: {reason}.*. Choose another by --port N or --host"):
            web.listen(host, number)


@pytest.mark.parametrize(
    ("name", "kind"), [("page.css", "text/css"), ("page.js", "text/javascript"), ("mend.js", "text/javascript")]
)
def test_every_asset_is_served_as_it_lies(site, name, kind):
    answer = requests.get(f"{site}/assets/{name}", timeout=9)
    assert answer.headers["Content-Type"].startswith(kind)
    assert answer.text.endswith((Path(web.__file__).parent / "web_assets" / name).read_text(encoding="utf-8"))
    assert not re.search(r"https?://|@import|url\(", answer.text)
