"""The form of the web page as a reader of bytes from outside; see fuzz_readers.py."""

import asyncio
from pathlib import Path
from typing import Any

from checks.fuzz_images import image

BOUNDARY = b"----x"


def upload_seeds(folder: Path) -> list[bytes]:
    """A form of the web page."""
    fields = {b'"model"': b"ridge", b'"label"': b"3", b'"image"; filename="a.png"': image("PNG")}
    parts = [b"Content-Disposition: form-data; name=" + name + b"\r\n\r\n" + value for name, value in fields.items()]
    return [b"".join(b"--" + BOUNDARY + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + BOUNDARY + b"--\r\n"]


def read_upload(content: bytes, folder: Path) -> None:
    """A form of the web page as the server reads it, in two blocks."""
    from starlette.requests import Request

    from app.web_upload import Body

    half = len(content) // 2
    blocks = [content[:half], content[half:]]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": blocks.pop(0), "more_body": bool(blocks)}

    kind = b"multipart/form-data; boundary=" + BOUNDARY
    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind)], "app": None}
    upload = asyncio.run(Body(Request(scope, receive), 1 << 16).read())
    assert upload.label is None or 0 <= upload.label < 10**6, "a number as long as ours"
    upload.close()


def upload_rejections() -> tuple[type[Exception], ...]:
    """Returns what reading a form is documented to raise."""
    from starlette.exceptions import HTTPException

    from app.web_upload import TooLargeError

    return TooLargeError, HTTPException
