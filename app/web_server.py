"""The routes of the web page, and what it rejects: see docs/web.md."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from app import explanation, web_api, web_connection, web_upload
from app.explanation import Answer, Deadline, TooSlowError
from app.model_cache import ModelCache
from app.web_page import Pages
from app.web_upload import TooLargeError, Upload
from stages.library.common.console import UserError, say
from stages.library.figures import thumbnails
from stages.library.preparation.decoding_workers import Workers
from stages.library.preparation.normalisation import ImageError

MESSAGES = {
    400: "The request is not one that this page sends.",
    403: "Images are taken from this page's own form only.",
    404: "There is no such page.",
    405: "This page can't be used that way.",
    500: "Something went wrong; the terminal of the server says what.",
}
UNDECODED = "No image that can be used: the server can't decode it now, and its terminal says why."
UNLOADED = "This model can't be loaded; the terminal of the server says why. Please choose another one."
DISCARD_SECONDS = 5.0
SPARE = 2  # images decoded at once beyond those classified


@dataclass(frozen=True)
class Limits:
    """What a server takes on."""

    upload_bytes: int  # of an image's file
    pixels: int  # of an image
    request_seconds: float  # from the head of a request to its answer
    concurrency: int  # images worked on at once
    queue: int  # further requests that wait; all others are rejected at once


class Server:
    """The web application over some pages and models, as `app`; it rejects what is beyond its limits.

    `hosts` are names by which it may be called, lest a page elsewhere points its own name here; ["*"]: any. `more` are
    the routes of further pages.
    """

    def __init__(self, pages: Pages, models: ModelCache, limits: Limits, hosts: list[str], more: Sequence[Route] = ()):
        self._pages, self._models, self._limits = pages, models, limits
        # Who sends what takes long to decode keeps two others from being decoded, and nobody from being classified.
        self._pool = ThreadPoolExecutor(limits.concurrency + SPARE, "classify")
        self._decoding = Workers(limits.concurrency + SPARE)
        self._decoding.prepare()
        self._classifying = threading.Semaphore(limits.concurrency)
        self._places = threading.Semaphore(limits.concurrency + limits.queue)
        self._drawing = asyncio.Lock()
        routes = [
            Route("/", self._form, methods=["GET"]),
            Route("/classify", self._classify, methods=["POST"]),
            Route(f"{web_api.PATH}predict", self._predict, methods=["POST"]),
            Route(f"{web_api.PATH}openapi.json", self._openapi, methods=["GET"]),
            Route("/leaderboard", self._leaderboard, methods=["GET"]),
            Route("/images", self._images, methods=["GET"]),
            Route("/assets/{name}", self._asset, methods=["GET"]),
            *more,
        ]
        slashed = [Route(f"{route.path}/", _without_slash, methods=route.methods) for route in routes[1:]]
        named = [Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)]
        handlers = dict.fromkeys((HTTPException, Exception), self._rejected)
        self.app = Starlette(routes=[*routes, *slashed], middleware=named, exception_handlers=handlers)
        self.app.router.redirect_slashes = False  # to an address with a host, which is another one behind a proxy

    def run(self, listening: socket.socket) -> None:
        """Answers requests until Ctrl+C or SIGTERM, which end the process."""
        connections = web_connection.most_connections(self._limits.concurrency + self._limits.queue)
        config = web_connection.configuration(self.app, connections, self._limits.request_seconds)
        with contextlib.closing(self):
            web_connection.run(config, listening)

    def close(self) -> None:
        """Ends the processes that decode, whatever they are doing."""
        self._decoding.close()

    async def _form(self, request: Request) -> Response:
        return HTMLResponse(self._pages.classify(self._pages.models[0]))

    async def _asset(self, request: Request) -> Response:
        if request.path_params["name"] not in self._pages.assets:
            raise HTTPException(404)
        content, kind = self._pages.assets[request.path_params["name"]]
        return Response(content, media_type=kind)

    async def _leaderboard(self, request: Request) -> Response:
        async with self._drawing:  # Matplotlib is not safe in threads
            return HTMLResponse(await asyncio.to_thread(lambda: self._pages.leaderboard))

    async def _images(self, request: Request) -> Response:
        asked = request.query_params
        actual, predicted = (web_upload.number(asked.get(side)) for side in ("actual", "predicted"))
        async with self._drawing:  # one at a time, for nobody is kept waiting for long
            try:
                page = await asyncio.to_thread(self._pages.images, asked.get("model", ""), actual, predicted)
            except UserError as reason:
                _say(reason)
                raise HTTPException(500) from reason
        if page is None:
            raise HTTPException(404)
        return HTMLResponse(page)

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(web_api.description(self._pages.models, self._limits.upload_bytes, self._limits.pixels))

    async def _classify(self, request: Request) -> Response:
        return await self._work(request, self._answer)

    async def _predict(self, request: Request) -> Response:
        return await self._work(request, self._answer_a_program)

    async def _work(self, request: Request, answer: Callable[[Upload, Deadline], Response]) -> Response:
        """Reads a form and answers it in a thread of its own, both within the limits."""
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise HTTPException(403)
        if not self._places.acquire(blocking=False):
            await web_upload.discard(request, DISCARD_SECONDS)
            return self._reject(request, 503, "Too many images at once. Please try again in a moment.", "5")
        leaving = contextlib.ExitStack()
        leaving.callback(self._places.release)
        seconds = self._limits.request_seconds
        deadline = Deadline(seconds)
        work: Future[Response] = Future()  # until there is any
        try:
            async with asyncio.timeout(seconds):
                upload = await web_upload.read(request, self._limits.upload_bytes)
                if upload.file:
                    leaving.enter_context(upload.file)
                work = self._pool.submit(answer, upload, deadline)
                return await asyncio.wrap_future(work)
        except TooLargeError:
            await web_upload.discard(request, min(DISCARD_SECONDS, deadline.left_seconds()))
            most = f"{self._limits.upload_bytes / 1e6:g} MB"
            return self._reject(request, 413, f"This file is too large. At most {most}, please.")
        except (TimeoutError, TooSlowError):
            return self._reject(request, 503, f"Given up: this took more than {seconds:g} seconds.", "30")
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        finally:
            work.cancel()  # unless it has begun: nothing can interrupt it then, and it keeps its place until its end
            work.add_done_callback(lambda _: leaving.close())

    def _answer(self, upload: Upload, deadline: Deadline) -> Response:
        """Returns the page for a form."""
        model = upload.model if upload.model in self._pages.models else self._pages.models[0]
        examples, example = self._pages.examples, None
        if not upload.name and upload.example is not None and upload.example < len(examples):
            example = upload.example
        answer: Answer | None = None
        error, trouble = "", UNDECODED
        try:
            image = thumbnails.decode(examples[example].encoded) if example is not None else self._sent(upload)
            trouble = UNLOADED
            with deadline.hold(self._classifying):
                answer = explanation.explain(self._models.get(model, deadline), image, upload.label, deadline)
        except ImageError as reason:
            error = f"No image that can be used: {reason}."
        except UserError as reason:
            error = trouble
            _say(reason)
        return HTMLResponse(self._pages.classify(model, answer, error, example, upload.name))

    def _answer_a_program(self, upload: Upload, deadline: Deadline) -> Response:
        """Returns JSON for a form."""
        trouble = UNDECODED
        try:
            wanted = web_api.wanted(upload, self._pages.models)
            if not (upload.file and upload.name):
                raise web_api.FieldError("`image` must be a file with a name. Received: none")
            image = self._sent(upload)
            trouble = UNLOADED
            with deadline.hold(self._classifying):
                found = web_api.predict(self._models.get(wanted.model, deadline), image, wanted.top, deadline)
        except (web_api.FieldError, ImageError) as reason:
            return JSONResponse({"error": str(reason)}, 422)
        except UserError as reason:
            _say(reason)
            return JSONResponse({"error": trouble}, 500)
        return JSONResponse(found)

    def _sent(self, upload: Upload) -> np.ndarray:
        """Returns the image of a form, uint8 RGB (height, width, 3), decoded in a process of its own; ImageError."""
        if not (upload.file and upload.name):
            raise ImageError("choose, paste or drop one first")
        return self._decoding.pixels(upload.file.read(), self._limits.pixels)

    async def _rejected(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return self._reject(request, status, MESSAGES.get(status, MESSAGES[400]))

    def _reject(self, request: Request, status: int, text: str, retry_after_seconds: str = "") -> Response:
        headers = {"Retry-After": retry_after_seconds} if retry_after_seconds else {}
        if request.url.path.startswith(web_api.PATH):
            return JSONResponse({"error": text}, status, headers | {"Connection": "close"})
        root = "../" * min(request.url.path.count("/") - 1, 9)
        return HTMLResponse(self._pages.message(text, root), status, headers | {"Connection": "close"})


def _say(reason: UserError) -> None:
    with contextlib.suppress(OSError):  # nobody reads the terminal
        say(f"error: {reason}", err=True)  # there alone, for it holds paths


async def _without_slash(request: Request) -> Response:
    """Leads from an address with a slash too many to the one without, relative to wherever a proxy has put the page."""
    name = request.scope["raw_path"].decode("ascii").split("/")[-2]
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"../{name}{query}")
