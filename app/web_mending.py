"""The page "Mend labels": its routes, and who may use it.

A decision changes a file of the checkout, so it is taken from this page's own forms only. Browsers say where a request
comes from: by `Sec-Fetch-Site`, which a page elsewhere can't change, or, where they leave that out, by `Origin`.
"""

import asyncio
import functools
import math
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from app import explanation, findings
from app.findings import KINDS, Finding, Images
from app.mending import ConflictError, Ledger
from app.models import Project
from app.web_page import Pages
from stages.library.common.console import UserError
from stages.library.preparation.corrections import KEEP, RELABEL, Correction

TILES = 24  # on a page
DECIDED = "decided"  # the kind of what has been decided before
FORM_BYTES, FIELDS, SECONDS = 1 << 14, 12, 10.0
# What proxies add: then the one who asks may be anybody, though the connection is from this machine.
FORWARDED = {"forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"}
KEPT_THUMBNAILS = 1000  # some 10 kB each


class Tile(NamedTuple):
    """An image as the page shows it."""

    key: str
    label: str  # "" where the image is not in the records, as what was dropped
    place: str
    reason: str
    likely: str
    decision: Correction | None
    is_unknown: bool  # whether the decision's class is none of the data set's any more
    kind: str


class Desk:
    """The findings of a project, the decisions on them and the pages that show both.

    `for_others` says that it was asked for by an option, so that it may be used from other machines.
    """

    def __init__(
        self, pages: Pages, images: Images, found: dict[str, list[Finding]], ledger: Ledger, for_others: bool = False
    ):
        self._pages, self._images, self._findings, self._ledger = pages, images, found, ledger
        self._for_others = for_others
        pages.offer_mending()
        self._drawing = asyncio.Lock()
        self._thumbnail = functools.lru_cache(KEPT_THUMBNAILS)(self._draw)

    def routes(self) -> list[Route]:
        """The routes of the page and of its forms, which have the same address."""
        return [Route("/mend", self._show, methods=["GET"]), Route("/mend", self._decide, methods=["POST"])]

    async def _show(self, request: Request) -> Response:
        self._check_who(request)
        kind, number = request.query_params.get("kind", ""), request.query_params.get("page", "")
        wanted = int(number) if number.isascii() and number.isdecimal() and len(number) < 6 else 0
        async with self._drawing:  # a page at a time, for its images are decoded
            return await asyncio.to_thread(self._page, kind, wanted)

    async def _decide(self, request: Request) -> Response:
        self._check_who(request)
        if not is_from_own_page(request):
            raise HTTPException(403)
        return await asyncio.to_thread(self._answer, await _fields(request))

    def _check_who(self, request: Request) -> None:
        if not self._for_others and not FORWARDED.isdisjoint(request.headers.keys()):
            raise HTTPException(404)

    def _answer(self, fields: dict[str, str]) -> Response:
        """Writes what a form says. Answers a script with the tile as it is now, and a plain form with its page."""
        kind, key, action = (fields.get(name, "") for name in ("kind", "key", "action"))
        if kind not in (*KINDS, DECIDED):
            raise HTTPException(400)
        error, status = "", 200
        try:
            if action == "undo":
                done = (fields.get(name, "") for name in ("done", "label", "when", "note"))
                self._ledger.undo(Correction(key, *done))
            elif key not in self._images:
                raise UserError("this image is not in the data set")
            else:
                label = fields.get("label", "").strip() if action == RELABEL else ""
                if label == self._images.label(key):
                    action, label = KEEP, ""  # to be what it is
                note = KINDS.get(kind, "decided again").lower()
                self._ledger.decide(key, action, label, note, self._images.classes)
        except UserError as reason:
            error, status = self._words(reason), 409 if isinstance(reason, ConflictError) else 400
        if not fields.get("part"):
            back = f"mend?kind={kind}&page={fields.get('page', '1')[:5]}#{key}"
            return self._message(error, status) if error else RedirectResponse(back, 303)
        try:
            tile = self._tile(self._finding(kind, key), kind, self._ledger.decisions())
        except UserError as reason:
            return HTMLResponse(self._pages.part("tile.html", tile=None, error=self._words(reason)), 400)
        return HTMLResponse(self._pages.part("tile.html", tile=tile, error=error, thumbnail=self._thumbnail), status)

    def _finding(self, kind: str, key: str) -> Finding:
        return next((one for one in self._findings.get(kind, ()) if one.key == key), Finding(key))

    def _page(self, kind: str, number: int) -> Response:
        try:
            decisions = self._ledger.decisions()
        except UserError as reason:
            return self._message(self._words(reason), 200)
        kinds = self._findings | {DECIDED: [Finding(key) for key in reversed(decisions)]}
        if kind not in kinds:
            kind = next((name for name, found in kinds.items() if found), DECIDED)
        found = kinds[kind]
        pages = max(1, math.ceil(len(found) / TILES))
        open_ones = (place for place, one in enumerate(found) if one.key not in decisions)
        number = min(number or next(open_ones, 0) // TILES + 1, pages)
        shown = found[(number - 1) * TILES : number * TILES]
        counts = {
            name: (title, len(kinds[name]), sum(one.key in decisions for one in kinds[name]))
            for name, title in (KINDS | {DECIDED: "Decided"}).items()
        }
        tiles = [self._tile(one, kind, decisions) for one in shown]
        here = {"kind": kind, "kinds": counts, "tiles": tiles, "number": number, "number_of_pages": pages, "error": ""}
        values: dict[str, Any] = {"page": "mend", "classes": self._images.classes, "thumbnail": self._thumbnail, **here}
        return HTMLResponse(self._pages.part("mend.html", **values))

    def _tile(self, finding: Finding, kind: str, decisions: dict[str, Correction]) -> Tile:
        key, decision = finding.key, decisions.get(finding.key)
        is_there = key in self._images
        label, place = (self._images.label(key), self._images.place(key)) if is_there else ("", "")
        is_unknown = bool(decision and decision.label and decision.label not in self._images.classes)
        return Tile(key, label, place, finding.reason, finding.likely, decision, is_unknown, kind)

    def _draw(self, key: str) -> bytes:
        return explanation.thumbnail(self._images.encoded(key))

    def _words(self, reason: UserError) -> str:
        """Returns an error without the folders of this machine, as a sentence."""
        text = str(reason).replace(str(self._ledger.path), self._ledger.path.name).rstrip(".")
        return f"{text[:1].upper()}{text[1:]}."

    def _message(self, text: str, status: int) -> Response:
        return HTMLResponse(self._pages.message(text, ""), status)


def routes(project: Project, pages: Pages, for_others: bool) -> list[Route]:
    """Returns the routes of a project's page; none where it has no images yet."""
    if not (project.root / "data" / "tfrecord" / "dataset.json").is_file():
        return []
    images, ledger = Images(project.root), Ledger(project.root / "data" / "corrections.csv")
    return Desk(pages, images, findings.read(project, images), ledger, for_others).routes()


def is_from_own_page(request: Request) -> bool:
    """Tells whether a request that changes something comes from a page of the same address."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = urlsplit(request.headers.get("origin", ""))
    return origin.scheme in ("http", "https") and origin.netloc == request.headers.get("host")


async def _fields(request: Request) -> dict[str, str]:
    """Returns the last value of each field of a small form; HTTPException (400, 413) for anything else."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise HTTPException(400)
    content = b""
    try:
        async with asyncio.timeout(SECONDS):
            async for block in request.stream():
                content += block
                if len(content) > FORM_BYTES:
                    raise HTTPException(400)
        fields = parse_qs(content.decode("ascii"), keep_blank_values=True, max_num_fields=FIELDS, errors="strict")
    except (TimeoutError, ValueError) as error:
        raise HTTPException(400) from error
    return {name: values[-1] for name, values in fields.items()}
