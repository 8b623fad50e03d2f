"""A page in the browser: what is in an image, why, and how good each model is.

For this machine alone, unless --host says otherwise: read docs/web.md before.

example: python -m app.web --port 8000
"""

import argparse
import ipaddress
import os
import socket
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from app.models import Project
from app.spinner import spinner
from stages.library.common import console
from stages.library.common.console import UserError
from stages.library.figures import thumbnails
from stages.library.preparation import normalisation

if TYPE_CHECKING:
    from app.web_server import Server

LOCAL = ["localhost", "127.0.0.1", "[::1]"]
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104
FIRST_ANSWER_SECONDS = 600.0
NUMBERS: list[tuple[str, float, float, float, str, str]] = [  # option, default, least, most, unit, help
    ("port", 7860, 0, 65_535, "N", "0: any free one"),
    ("upload-mb", 20.0, 0.001, 1000, "MB", "largest file"),
    ("megapixels", 50.0, 0.001, normalisation.MAX_PIXELS / 1e6, "N", "largest image"),
    ("request-seconds", 60.0, 0.001, 86_400, "S", "for an answer"),
    ("concurrency", 2, 1, 256, "N", "images at once"),
    ("queue", 16, 0, 10_000, "N", "more that wait"),
    ("models", 3, 1, 1000, "N", "in memory at most"),
]


def main() -> None:
    """Runs the program."""
    arguments = parse_arguments()
    listening = listen(arguments.host, arguments.port)
    with listening:
        with spinner("starting"):
            server = prepare(arguments)
        host, port = listening.getsockname()[:2]
        shown = "localhost" if arguments.host in EVERYWHERE else f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{port}/"
        if sys.stdout.isatty() if arguments.open is None else arguments.open:
            webbrowser.open(url)
        console.say(f"web: open {url} in a browser; Ctrl+C ends it")
        server.run(listening)


def parse_arguments() -> argparse.Namespace:
    """Reads and checks the command line."""
    parser = console.Parser(prog="python -m app.web", description=__doc__, usage="%(prog)s [options]")
    about = "address to listen on (default: this machine)"
    parser.add_argument("--host", default="127.0.0.1", metavar="IP", help=about)
    parser.add_argument("--open", action=argparse.BooleanOptionalAction, help="start a browser (in a terminal: yes)")
    about = "page that changes data/corrections.csv (by default: for this machine alone)"
    parser.add_argument("--mend", action=argparse.BooleanOptionalAction, help=about)
    parser.add_argument("--project", type=Path, default=Path(), metavar="FOLDER", help="checkout (default: here)")
    for name, default, _, _, unit, text in NUMBERS:
        help_text = f"{text} (default: {default:g})"
        parser.add_argument(f"--{name}", type=type(default), default=default, metavar=unit, help=help_text)
    arguments = parser.parse_args()
    for name, _, least, most, _, _ in NUMBERS:
        value = getattr(arguments, name.replace("-", "_"))
        if not least <= value <= most:
            parser.error(f"--{name} must be {least:g} to {most:g}. Received: {value:g}")
    return arguments


def listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket, so that what is wrong with an address shows at once, as UserError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else "no such address"
        raise UserError(f"{host} port {port}: {reason}. Choose another by --port N or --host IP") from error


def prepare(arguments: argparse.Namespace) -> "Server":
    """Loads the best model and answers for one image, so that the first visitor need not wait.

    UserError where there is no model at all, or what the web page needs is not installed.
    """
    try:
        from app import explanation, web_mending
        from app.model_cache import ModelCache
        from app.web_page import Pages
        from app.web_server import Limits, Server
    except ModuleNotFoundError as error:
        remedy = "Run: pip install -r requirements-web.txt"
        raise UserError(f"the Python package {error.name} is missing. {remedy}") from error
    upload_bytes, max_pixels = round(arguments.upload_mb * 1e6), round(arguments.megapixels * 1e6)
    project = Project.open(arguments.project)
    models, pages = ModelCache(project, arguments.models), Pages(project, upload_bytes, max_pixels)
    if not pages.models:
        raise UserError("there is neither a trained model nor a backbone's weights on this machine. Run: dvc repro")
    if not pages.trained:
        console.say("note: no trained model yet (dvc repro makes them); ImageNet's classes only", err=True)
    deadline = explanation.Deadline(FIRST_ANSWER_SECONDS)
    loaded = models.get(pages.models[0], deadline)
    if pages.examples:
        explanation.explain(loaded, thumbnails.decode(pages.examples[0].encoded), None, deadline)
    limits = Limits(upload_bytes, max_pixels, arguments.request_seconds, arguments.concurrency, arguments.queue)
    hosts = ["*"] if arguments.host in EVERYWHERE else [*LOCAL, arguments.host]
    mends = is_loopback(arguments.host) if arguments.mend is None else arguments.mend
    more = web_mending.routes(project, pages, bool(arguments.mend)) if mends else []
    return Server(pages, models, limits, hosts, more)


def is_loopback(host: str) -> bool:
    """Tells whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    console.run(main)
