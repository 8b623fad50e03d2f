"""Forms with an image from strangers: read within limits of bytes and time, in little memory."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any, BinaryIO

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message

FORM_BYTES = 1 << 16  # of a request, beside the image
FIELD_BYTES = 1 << 12
FIELDS = 8
NUMBER_DIGITS = 6


class TooLargeError(Exception):
    """A request's body is larger than it may be."""


@dataclass(frozen=True)
class Upload:
    """A form that was sent; nothing in it is checked.

    Attributes:
      model: name of a model.
      label: class id to show a heat map for.
      example: index of an example image.
      name: of the file, or "".
      file: its content, on disk where it is larger than a megabyte.
    """

    model: str
    label: int | None
    example: int | None
    name: str
    file: BinaryIO | None

    def close(self) -> None:
        """Gives the disk space back."""
        if self.file:
            self.file.close()


class Body:
    """The body of a request, counted as it comes in.

    Args:
      request: whose body nobody has read yet.
      max_file_bytes: of the file in it.
    """

    def __init__(self, request: Request, max_file_bytes: int):
        self._request = request
        self._max_file_bytes = max_file_bytes
        self._left = max_file_bytes + FORM_BYTES
        self._ended = False
        self._end = _last_delimiter(request.headers.get("content-type", ""))
        self._tail = b""

    async def read(self) -> Upload:
        """Returns the form.

        Raises:
          TooLargeError: the body, or the file in it, is larger than it may be.
          HTTPException: it is no form (400).
          ClientDisconnect: the other side hung up.
        """
        length = self._request.headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 15 or int(length) > self._left:
            raise TooLargeError
        scope = Request(self._request.scope, self._receive)
        try:
            form = await scope.form(max_files=1, max_fields=FIELDS, max_part_size=FIELD_BYTES)
        except UnicodeError as error:  # of some character sets that a request may name
            raise HTTPException(400) from error
        upload = form.get("image")
        for _, other in form.multi_items():
            if isinstance(other, UploadFile) and other is not upload:
                other.file.close()
        file, name = None, ""
        if isinstance(upload, UploadFile):
            file, name = upload.file, upload.filename or ""
            if (upload.size or 0) > self._max_file_bytes:
                file.close()
                raise TooLargeError
        return Upload(str(form.get("model", "")), _number(form.get("label")), _number(form.get("example")), name, file)

    async def discard(self, seconds: float) -> None:
        """Reads on without keeping anything: a browser that still sends sees no answer, but a broken connection."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._ended:
                    self._note(await self._request.receive())

    async def _receive(self) -> Message:
        message = await self._request.receive()
        self._note(message)
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise TooLargeError
        if self._end:
            self._tail = (self._tail + message.get("body", b""))[-len(self._end) - 2 :]
            if self._ended and self._end not in self._tail:
                raise MultiPartException("Its end is missing.")  # or its file would stay open, on disk
        return message

    def _note(self, message: Message) -> None:
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)


def _last_delimiter(kind: str) -> bytes:
    """Returns what must end the body of a form with files, b"" for other kinds."""
    name, options = parse_options_header(kind)
    if name != b"multipart/form-data" or b"boundary" not in options:
        return b""
    return b"\r\n--" + options[b"boundary"] + b"--"


def _number(text: Any) -> int | None:
    """Returns a field's number, which is no longer than any of ours."""
    if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) <= NUMBER_DIGITS:
        return int(text)
    return None
