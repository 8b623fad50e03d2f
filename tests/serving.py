"""The web page's server on this machine, with models that are quick or slow as told, and requests to it."""

import contextlib
import io
import re
import threading
import time
from dataclasses import replace
from typing import cast

import numpy as np
import requests
import uvicorn
from PIL import Image

from app import web
from app.explanation import Explained
from app.model_cache import ModelCache
from app.models import Model
from app.web_page import Pages
from app.web_server import Limits, Server
from stages.library.records.preprocessing import Preprocessing

UPLOAD_BYTES = 200_000
LIMITS = Limits(upload_bytes=UPLOAD_BYTES, pixels=10_000, request_seconds=30, concurrency=2, queue=2)
PATIENCE_SECONDS = 60


class Models:
    """Stands in for the cache of models: one that finds every image as bright as it is.

    Attributes:
      gate: answers wait for it.
      error: raised in place of an answer.
    """

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
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
        return Explained(Model(name, ("dark", "<b>bright"), Preprocessing(8), brightness), None, "trees", None)


def brightness(images):
    bright = np.asarray(images, np.float32).mean() / 255
    return np.array([[1 - bright, bright]], np.float32)


def png(value=255, size_px=(6, 4)):
    out = io.BytesIO()
    Image.new("RGB", size_px, (value,) * 3).save(out, "PNG")
    return out.getvalue()


@contextlib.contextmanager
def serving(project, connections=200, **changes):
    limits = replace(LIMITS, **changes)
    models, listening = Models(), web.listen("127.0.0.1", 0)
    pages = Pages(project, limits.upload_bytes, limits.pixels)
    application = Server(pages, cast(ModelCache, models), limits, web.LOCAL)
    server = uvicorn.Server(web.configuration(application.app, connections, limits.request_seconds))
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


def shown(answer):
    """The text of the page's result."""
    page = answer.text[answer.text.index('id="result"') :]
    return " ".join(re.sub("<[^>]*>", " ", page).split())


def until(condition):
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
