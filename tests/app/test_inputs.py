"""app.inputs: what the words of a command line name, and reading it."""

import contextlib
import os
import threading
import time

import numpy as np
import pytest
from conftest import write_images
from hypothesis import given
from hypothesis import strategies as st

from app import inputs
from stages.library.figures import thumbnails
from stages.library.preparation import normalisation
from tests import misbehaving


@pytest.fixture
def folder(tmp_path):
    """cat/{0,1}.png, dog/{0,1}.png, a hidden file and a link in a circle."""
    root = write_images(tmp_path / "images", per_class=2, classes=("cat", "dog"))
    (root / ".hidden").write_text("x")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("x")
    (root / "cat" / "circle").symlink_to(root, target_is_directory=True)
    return root


def test_files_folders_and_patterns(folder):
    every = [str(folder / name) for name in ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")]
    assert inputs.names(str(folder)) == every
    assert inputs.names(str(folder / "*" / "0.png")) == every[::2]
    assert inputs.names(f"{folder}/**/1.png") == every[1::2]
    assert inputs.names(f"{folder}/d*") == every[2:]
    assert inputs.names(every[0]) == every[:1]
    assert inputs.names(f"file://{every[0]}") == every[:1]
    odd = folder / "cat" / "what[0]?.png"  # is itself
    odd.touch()
    assert inputs.names(str(odd)) == [str(odd)]


def test_read_gives_bytes_that_decode_or_a_reason(folder, tmp_path, monkeypatch):
    (good,) = inputs.find([str(folder / "cat" / "0.png")])
    assert thumbnails.decode(inputs.read(good, normalisation.normalise).encoded).shape == (24, 24, 3)
    monkeypatch.setattr(inputs, "MAX_BYTES", 100)
    assert inputs.read(good, normalisation.normalise).error.startswith("more than")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reasons = {
        str(tmp_path / "absent"): "No such file or directory",
        str(fifo): "not a regular file",
        "a" * 5000: "File name too long",
        "nul\0": "embedded null",  # byte, or character from Python 3.13 on
        "file:///nowhere.png": "No such file or directory",
    }
    for word, reason in reasons.items():
        (found,) = inputs.find([word])
        assert reason in inputs.read(found, normalisation.normalise).error


@given(st.text(max_size=300))
def test_no_word_ends_in_a_traceback(word):
    for found in inputs.find([word])[:2]:
        if not found.name.startswith(("http://", "https://")):
            inputs.read(found, normalisation.normalise)


def test_urls(server, monkeypatch):
    monkeypatch.setattr(inputs, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(inputs, "TIMEOUT_SECONDS", 0.5)
    png = normalisation.normalise(np.full((5, 6, 3), 7, np.uint8)).encoded

    def endless(handler):
        with contextlib.suppress(OSError):  # the client goes, as it should
            handler.answer(200, png, length=1 << 40)
            while True:
                handler.wfile.write(bytes(1 << 16))

    def read(behaviour):
        server.behaviours = [behaviour]
        (found,) = inputs.find([server.url("image.png")])
        return inputs.read(found, normalisation.normalise)

    image = read(lambda handler: handler.answer(200, png))
    assert thumbnails.decode(image.encoded).shape == (5, 6, 3)
    assert read(misbehaving.answers(404)).error == "the server answered 404"
    assert read(endless).error == "more than 1 MiB"
    start = time.monotonic()
    assert read(lambda handler: threading.Event().wait(2)).error == "can't be downloaded: ReadTimeout"
    assert time.monotonic() - start < 2
