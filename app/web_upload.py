"""Forms with an image from strangers: read within limits of bytes and time, in little memory."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, BinaryIO, NamedTuple

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

FORM_BYTES = 1 << 16  # of a request, beside the image
FIELD_BYTES = 1 << 12
FIELDS = 8
NUMBER_DIGITS = 6


class TooLargeError(Exception):
    """A request's body is larger than it may be."""


class Upload(NamedTuple):
    """A form that was sent; nothing in it is checked."""

    model: str
    label: int | None  # class id to show a heat map for
    example: int | None  # index of an example image
    top: str  # of a program: how many classes
    name: str  # of the file, or ""
    file: BinaryIO | None  # on disk where it is larger than a megabyte; the caller closes it
    fields: tuple[str, ...] = ()  # names of all, as they came


class _Parser(MultiPartParser):
    """Starlette's parser for at most so many bytes, which misses a form's end."""

    def __init__(self, request: Request, most_bytes: int):
        blocks = self._blocks(request, most_bytes)
        super().__init__(request.headers, blocks, max_files=1, max_fields=FIELDS, max_part_size=FIELD_BYTES)
        self._ended = False

    def on_end(self) -> None:
        self._ended = True

    async def _blocks(self, request: Request, left: int) -> AsyncGenerator[bytes, None]:
        async for block in request.stream():
            left -= len(block)
            if left < 0:
                raise TooLargeError
            yield block
        if not self._ended:
            raise MultiPartException("Its end is missing.")  # or its file would stay open, on disk


async def read(request: Request, max_file_bytes: int) -> Upload:
    """Returns the form of a request whose body nobody has read yet.

    Raises TooLargeError for body or file, HTTPException (400) for what is no form, ClientDisconnect where one hung up.
    """
    length, most_bytes = request.headers.get("content-length", "0"), max_file_bytes + FORM_BYTES
    if not length.isdecimal() or len(length) > 15 or int(length) > most_bytes:
        raise TooLargeError
    try:
        form = await _Parser(request, most_bytes).parse()
    except (KeyError, MultiPartException, UnicodeError) as error:  # no Content-Type; an odd character set
        raise HTTPException(400) from error
    label, example = number(form.get("label")), number(form.get("example"))
    upload = Upload(str(form.get("model", "")), label, example, str(form.get("top", "")), "", None, tuple(form))
    for _, value in form.multi_items():
        if isinstance(value, UploadFile):  # one at most
            if (value.size or 0) > max_file_bytes:
                value.file.close()
                raise TooLargeError
            upload = upload._replace(name=value.filename or "", file=value.file)
    return upload


async def discard(request: Request, seconds: float) -> None:
    """Reads on without keeping anything: a browser that still sends sees no answer, but a broken connection."""
    with contextlib.suppress(ClientDisconnect, RuntimeError, TimeoutError):  # RuntimeError: all of it has been read
        async with asyncio.timeout(seconds):
            async for _ in request.stream():
                pass


def number(text: Any) -> int | None:
    """Returns a field's number, which is no longer than any of ours."""
    known = isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) <= NUMBER_DIGITS
    return int(text) if known else None
