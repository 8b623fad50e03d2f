"""What a stranger's file beyond its limits does to tfrecord, app.predict and the page: one refusal, and nothing else.

A good image of some size plays that file, for the limits of memory are set below what it takes.
"""

import functools
import json
import re
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import contents
import pytest
from conftest import write_images
from PIL import Image

from app import predict, web_server
from checks.image_builders import encode
from stages import tfrecord
from stages.library.common import tables
from stages.library.preparation.decoding_process import Limits
from stages.library.preparation.decoding_workers import BEYOND, Workers
from tests.serving import classify, png, serving, shown
from tests.zoo import exif

LITTLE = functools.partial(Workers, limits=Limits(memory_bytes=16 << 20, bytes_per_pixel=0))
LARGE = encode(Image.new("RGB", (5000, 4000), "red"), "JPEG", exif=exif(6))  # 60 MB in memory, and more when turned


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "large.jpg"
    path.write_bytes(LARGE)
    return path


def test_tfrecord_lists_it_and_uses_the_others(tmp_path, make_records, monkeypatch, large):
    folder = write_images(tmp_path / "images", per_class=30)
    names = ["cat/00.jpg", "cat/30.jpg", "emu/zz.jpg"]
    for name in names:
        shutil.copy(large, folder / name)
    monkeypatch.setattr(tfrecord, "Workers", LITTLE)
    runs = []
    for _ in range(2):
        out = make_records(dataset__name="folder", dataset__folder=str(folder))
        assert [tuple(row.values()) for row in tables.read_csv(out / "rejected.csv")] == [
            (name, BEYOND) for name in names
        ]
        content = json.loads((out / "dataset.json").read_text())
        assert (content["images"], content["rejected"]) == (90, 3)
        runs.append(contents.of(out))
    assert runs[0] == runs[1]


def test_predict_names_it_and_uses_the_others(tmp_path, write_params, monkeypatch, capsys, large):
    good = tmp_path / "good.png"
    good.write_bytes(png(128))
    monkeypatch.setattr(predict, "Workers", LITTLE)
    arguments = ["--json", large, good, "--backbone", "efficientnet_lite0", "--size", 64, "--params", write_params()]
    monkeypatch.setattr(sys, "argv", ["app.predict", *map(str, arguments)])
    with pytest.raises(SystemExit, match="1"):
        predict.main()
    rejected, used = json.loads(capsys.readouterr().out)
    assert rejected == {"file": str(large), "error": BEYOND}
    assert len(used["classes"]) == 5


def test_the_page_refuses_it_and_answers_the_next(monkeypatch):
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
