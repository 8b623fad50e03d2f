"""The web page's server on this machine, with models that are quick or slow as told, and requests to it."""

import contextlib
import re
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import requests
import uvicorn
from PIL import Image

from app import web, web_connection
from app.explanation import Explained
from app.model_cache import ModelCache
from app.models import Model, Project
from app.parts import Part
from app.web_page import Pages
from app.web_server import Limits, Server
from checks.image_builders import encode
from stages.library.records.preprocessing import Preprocessing

UPLOAD_BYTES = 200_000
LIMITS = Limits(upload_bytes=UPLOAD_BYTES, pixels=10_000, request_seconds=30, concurrency=2, queue=2)
PATIENCE_SECONDS = 60
UNTRAINED = Project.open(Path("/nowhere"), Path(__file__).parents[1] / "params.yaml")
GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
HEAD = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
FORM_END = b'\r\n--x\r\nContent-Disposition: form-data; name="label"\r\n\r\n1\r\n--x--\r\n'


BRIGHT = Part(None, Preprocessing(8))


class Models:
    """Stands in for the cache of models: one that finds every image as bright as it is, when `gate` is open."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None  # raised in place of an answer
        self.heat_map: Any = "trees"
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    def get(self, name, deadline):
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.gate.wait(PATIENCE_SECONDS)
        with self.lock:
            self.at_once -= 1
        if self.error:
            raise self.error
        return Explained(Bright(name, ("dark", "<b>bright"), (BRIGHT,)), self.heat_map, None)


class Bright(Model):
    def answer(self, inputs):
        bright = np.asarray(inputs[0], np.float32).mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - bright, bright], axis=1), None


def png(value=255, size_px=(6, 4)):
    return encode(Image.new("RGB", size_px, (value,) * 3), "PNG")


def page_of(models, more_of=lambda pages: (), **changes):
    """The page's server with changed limits, and with the routes that `more_of` returns."""
    limits = replace(LIMITS, **changes)
    pages = Pages(UNTRAINED, limits.upload_bytes, limits.pixels)
    return Server(pages, cast(ModelCache, models), limits, web.LOCAL, more_of(pages))


@contextlib.contextmanager
def serving(connections=200, request_seconds=LIMITS.request_seconds, **changes):
    models, listening = Models(), web.listen("127.0.0.1", 0)
    application = page_of(models, request_seconds=request_seconds, **changes)
    server = uvicorn.Server(web_connection.configuration(application.app, connections, request_seconds))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", models
    finally:
        models.gate.set()
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)
        application.close()
        listening.close()
        assert not thread.is_alive()


def classify(url, content=None, name="a.png", timeout=PATIENCE_SECONDS, headers=None, **fields):
    files = {"image": (name, png() if content is None else content)}
    return requests.post(f"{url}/classify", files=files, data=fields, headers=headers, timeout=timeout)


def posted(image, *headers):
    """The bytes of a request."""
    body = PART + image + FORM_END
    return b"".join([HEAD, *headers, b"Content-Length: %d\r\n\r\n" % len(body), body])


def connect(url, content=b""):
    connection = socket.create_connection(address(url), timeout=PATIENCE_SECONDS)
    connection.sendall(content)
    return connection


def address(url):
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def shown(answer):
    """The text of the page's result."""
    page = answer.text[answer.text.index('id="result"') :]
    return " ".join(re.sub("<[^>]*>", " ", page).split())


def until(condition):
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
