"""Every kind of odd or bad input, and files beyond the limits, through the real stages, prediction and the web page.

The kinds are in tests/zoo.py. A good image of some size plays a file beyond the limits of memory, which are set below
what it takes.
"""

import csv
import functools
import json
import os
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import contents
import pytest
import sharded
from conftest import ROOT, write_images
from PIL import Image

from app import predict, web_server
from app.models import Project
from checks.image_builders import encode
from stages import tfrecord
from stages.library.common import tables
from stages.library.common.console import UserError
from stages.library.preparation.decoding_process import Limits
from stages.library.preparation.decoding_workers import BEYOND, Workers
from stages.library.preparation.normalisation import normalise
from tests import processes, zoo_folders
from tests.serving import BRIGHT, Bright, classify, serving, shown
from tests.zoo import KINDS, exif
from tests.zoo_folders import ACCEPTED, ENTRIES, FOLDERS, NOTHING, as_anyone

LITE0 = "efficientnet_lite0"
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A folder of three classes with all kinds of files and entries among good images."""
    base = tmp_path_factory.mktemp("zoo")
    root = write_images(base / "images", per_class=20)
    zoo_folders.png(base / "outside" / "secret.png", 90)
    for kind in KINDS:
        (root / "dog" / kind.file).write_bytes(kind.content)
    for seed, entry in enumerate(ENTRIES, start=100):
        path = root / "cat" / os.fsdecode(entry.made)
        if entry.make:
            entry.make(path, base / "outside")
        else:
            zoo_folders.png(path, seed)
    return root


def test_every_kind_becomes_a_record_or_a_row_and_nothing_is_lost(zoo, make_records):
    with as_anyone():
        out = make_records(dataset__name="folder", dataset__folder=str(zoo), tfrecord__max_rejected=0.9)
    kept = {record.filename: record for records in sharded.read(out).values() for record in records}
    rows = {row["name"]: row["reason"] for row in tables.read_csv(out / "rejected.csv")}
    for kind in KINDS:
        name = f"dog/{kind.file}"
        if not kind.accepted:
            assert rows.pop(name).startswith(kind.outcome), name
            continue
        assert kept.pop(name).encoded == normalise(kind.content).encoded, name
    for entry in ENTRIES:
        begin = entry.row or os.fsdecode(b"cat/" + entry.made)
        left = {ACCEPTED: kept, NOTHING: {begin: ""}}.get(entry.outcome, rows)
        (name,) = [name for name in left if name == begin or (entry.row and name.startswith(begin))]
        reason = left.pop(name)
        assert left is not rows or reason.startswith(entry.outcome), entry.name
    assert rows == {}
    assert sorted(kept) == sorted(f"{text}/{index}.png" for text in ("cat", "dog", "emu") for index in range(20))


@pytest.mark.parametrize("kind", FOLDERS, ids=lambda kind: kind.name)
def test_what_is_no_data_set_is_an_error_that_says_what_to_do(kind, make_records, tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    for seed, made in enumerate(kind.files):
        path = root / os.fsdecode(made)
        path.parent.mkdir(parents=True, exist_ok=True)
        if made.endswith(b"/"):
            path.mkdir()
        elif made.endswith(b"!"):
            path.write_bytes(b"\xff\xd8\xff" + bytes([seed]))
        elif made.endswith(b"?"):
            path.write_text(f"text {seed}")
        else:
            zoo_folders.png(path, seed)
    with pytest.raises(UserError, match=kind.message) as caught:
        make_records(dataset__name="folder", dataset__folder=str(root))
    assert "\n" not in str(caught.value)
    assert (tmp_path / "raw").exists() == (kind.stage == "tfrecord")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def predicted(monkeypatch, write_params, run_app):
    """Runs `app.predict` on some paths with a stand-in for the network; returns what it prints to stdout and stderr."""
    model = Bright("known", ("dark", "bright"), (BRIGHT,))
    monkeypatch.setattr(Project, "load", lambda *_: model)
    monkeypatch.setattr(Bright, "compiled", lambda self: self)

    def run(*paths, output="--json"):
        status, *printed = run_app("predict", "--params", write_params(), "--backbone", LITE0, output, *paths)
        assert status == 1
        return printed

    return run


def test_prediction_says_of_every_kind_what_the_stages_say(zoo, predicted):
    with as_anyone():
        said = {answer["file"]: answer for answer in json.loads(predicted(zoo)[0])}
    for kind in KINDS:
        answer = said.pop(str(zoo / "dog" / kind.file))
        assert ("classes" in answer) == kind.accepted
        assert kind.accepted or answer["error"].startswith(kind.outcome)
    for entry in ENTRIES:
        answer = said.get(str(zoo / "cat" / os.fsdecode(entry.made)), {})
        if entry.outcome.startswith(("can't be read", "not a regular file")):
            assert answer["error"], entry.name
        elif entry.outcome == ACCEPTED and not entry.row:
            assert "classes" in answer, entry.name


ODD = {
    "two\nlines.jpg": r"two\nlines.jpg",
    "\udcff\udcfe.jpg": r"\udcff\udcfe.jpg",
    "\x1b[31mred.jpg": r"\x1b[31mred.jpg",
    "\u2028.jpg": r"\u2028.jpg",
    "\u6c34\U0001f408\u200d\u2b1b.jpg": "\u6c34\U0001f408\u200d\u2b1b.jpg",
}


def test_prediction_prints_any_name_in_one_line(predicted, tmp_path):
    for name in ODD:
        zoo_folders.png(tmp_path / "good" / name, 1)
        (tmp_path / name).write_bytes(b"text")
    out, err = predicted(tmp_path / "good", *(tmp_path / name for name in ODD), output="--top=1")
    assert sorted(out.splitlines()[::2]) == sorted(f"{tmp_path}/good/{shown}" for shown in ODD.values())
    assert [f"error: {tmp_path}/{shown}: not an image" for shown in ODD.values()] == err.splitlines()[:-1]


@pytest.mark.parametrize(("output", "encoding"), [("--csv", "ascii"), ("--csv", "utf-8"), ("--json", "ascii")])
def test_tables_of_odd_names_are_printed_in_any_encoding(tmp_path, encoding, output):
    for name in ODD:
        (tmp_path / name).write_bytes(b"text")
    command = [sys.executable, "-m", "app.predict", output, "--backbone", LITE0, tmp_path]
    done = processes.run(*command, check=False, PYTHONIOENCODING=encoding)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert encoding != "ascii" or done.stdout.isascii()
    rows = json.loads(done.stdout) if output == "--json" else csv.DictReader(done.stdout.splitlines())
    assert [row["error"] for row in rows] == ["not an image"] * len(ODD)


def test_the_docs_count_every_kind():
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    listed = text.partition("<!-- python -m tests.zoo_folders -->\n")[2].partition("\n<!-- end -->")[0]
    assert listed == zoo_folders.table()


LITTLE = functools.partial(Workers, limits=Limits(memory_bytes=16 << 20, bytes_per_pixel=0))
LARGE = encode(Image.new("RGB", (5000, 4000), "red"), "JPEG", exif=exif(6))  # 60 MB in memory, and more when turned


def test_tfrecord_lists_a_file_beyond_the_limits_and_uses_the_others(tmp_path, make_records, monkeypatch):
    folder = write_images(tmp_path / "images", per_class=30)
    names = ["cat/00.jpg", "cat/30.jpg", "emu/zz.jpg"]
    for name in names:
        (folder / name).write_bytes(LARGE)
    monkeypatch.setattr(tfrecord, "Workers", LITTLE)
    runs = []
    for _ in range(2):
        out = make_records(dataset__name="folder", dataset__folder=str(folder))
        rows = tables.read_csv(out / "rejected.csv")
        assert rows == [{"name": name, "row": "", "reason": BEYOND} for name in names]
        content = json.loads((out / "dataset.json").read_text())
        assert (content["images"], content["rejected"]) == (90, 3)
        runs.append(contents.of(out))
    assert runs[0] == runs[1]


def test_predict_names_a_file_beyond_the_limits_and_uses_the_others(tmp_path, predicted, monkeypatch):
    large, good = tmp_path / "large.jpg", tmp_path / "good.png"
    large.write_bytes(LARGE)
    zoo_folders.png(good, 1)
    monkeypatch.setattr(predict, "Workers", LITTLE)
    rejected, used = json.loads(predicted(large, good)[0])
    assert rejected == {"file": str(large), "error": BEYOND}
    assert len(used["classes"]) == 2


def test_the_page_refuses_a_file_beyond_the_limits_and_answers_the_next(monkeypatch):
    monkeypatch.setattr(web_server, "Workers", LITTLE)
    with serving(upload_bytes=10**6, pixels=10**8) as (url, _):
        for _ in range(2):
            answer = classify(url, LARGE)
            assert answer.status_code == 200
            assert f"No image that can be used: {BEYOND}." in shown(answer)
            assert "100.0%" in shown(classify(url))


def test_two_that_take_long_keep_no_third_one_waiting(monkeypatch):
    begun, gate, real = threading.Semaphore(0), threading.Event(), Workers.pixels

    def slow(self, content, max_pixels):
        if content == b"slow":
            begun.release()
            gate.wait(60)
        return real(self, content, max_pixels)

    monkeypatch.setattr(Workers, "pixels", slow)
    with serving() as (url, _), ThreadPoolExecutor(2) as threads:
        assert classify(url).status_code == 200  # TensorFlow has started
        running = [threads.submit(classify, url, b"slow") for _ in range(2)]
        for _ in running:
            assert begun.acquire(timeout=60)
        start = time.monotonic()
        assert "100.0%" in shown(classify(url))
        assert time.monotonic() - start < 5
        assert not any(future.done() for future in running)
        gate.set()
        assert all("not an image" in shown(future.result()) for future in running)


def test_a_page_that_cannot_decode_says_so_without_a_path(monkeypatch, capfd):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with serving() as (url, _):
        answer = classify(url)
        assert re.search("the server can&#(x27|39);t decode it now", answer.text)
        assert "nowhere" not in answer.text
    assert "error: no process to decode images can be started: No such file or directory" in capfd.readouterr().err
