"""app.inputs: what the words of a command line name, and reading it."""

import http.server
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


def test_a_file_whose_name_looks_like_a_pattern_is_itself(folder):
    odd = folder / "cat" / "what[0]?.png"
    odd.write_bytes((folder / "cat" / "0.png").read_bytes())
    assert inputs.names(str(odd)) == [str(odd)]


def test_read_gives_bytes_that_decode_or_a_reason(folder, tmp_path):
    (good,) = inputs.find([str(folder / "cat" / "0.png")])
    assert thumbnails.decode(inputs.read(good, normalisation.normalise).encoded).shape == (24, 24, 3)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reasons = {
        str(tmp_path / "absent"): "No such file or directory",
        str(fifo): "not a regular file",
        "a" * 5000: "File name too long",
        "nul\0": "embedded null byte",
        "file:///nowhere.png": "No such file or directory",
    }
    for word, reason in reasons.items():
        (found,) = inputs.find([word])
        assert reason in inputs.read(found, normalisation.normalise).error


def test_a_file_too_large_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(inputs, "MAX_BYTES", 100)
    (found,) = inputs.find([str(folder / "cat" / "0.png")])
    assert inputs.read(found, normalisation.normalise).error.startswith("more than")


@given(st.text(max_size=300))
def test_no_word_ends_in_a_traceback(word):
    for found in inputs.find([word])[:2]:
        if not found.name.startswith(("http://", "https://")):
            inputs.read(found, normalisation.normalise)


@pytest.fixture
def server():
    """Answers /image.png with an image, /endless without end, /slow not at all and all else with 404."""
    png = normalisation.normalise(np.full((5, 6, 3), 7, np.uint8)).encoded
    ended = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/slow":
                ended.wait(10)
                return
            self.send_response(200 if self.path in ("/image.png", "/endless") else 404)
            self.end_headers()
            try:
                self.wfile.write(png)
                while self.path == "/endless":
                    self.wfile.write(bytes(1 << 16))
            except OSError:  # the client has gone, as it should
                pass

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        ended.set()
        httpd.shutdown()


def test_urls(server, monkeypatch):
    monkeypatch.setattr(inputs, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(inputs, "TIMEOUT_SECONDS", 0.5)

    def error(path):
        (found,) = inputs.find([f"{server}/{path}"])
        return inputs.read(found, normalisation.normalise).error

    (found,) = inputs.find([f"{server}/image.png"])
    assert thumbnails.decode(inputs.read(found, normalisation.normalise).encoded).shape == (5, 6, 3)
    assert error("absent") == "the server answered 404"
    assert error("endless") == "more than 1 MiB"
    start = time.monotonic()
    assert error("slow") == "can't be downloaded: ReadTimeout"
    assert time.monotonic() - start < 5
