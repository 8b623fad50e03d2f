"""Crowds at the web page: how many requests at once are answered, what becomes of the others, and the server's memory.

Starts the server with its default limits on a free port of this machine, and talks to no other. What is too much
must be rejected with status 503; afterwards a single request must be answered as before. Linux only. Takes minutes.
Run: python -m benchmarks.web_load [--project FOLDER] [--requests 100 1000] [--megapixels 0.1 12]
"""

import asyncio
import io
import itertools
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from benchmarks.shared import ROOT, Memory, parser

START_SECONDS, ANSWER_SECONDS = 300, 180
NO_ANSWER = "none"
STATUSES = "200", "503", NO_ANSWER
HEAD = "POST /classify HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
HEAD += "Content-Type: multipart/form-data; boundary=x\r\n"
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'


def main() -> None:
    """Prints the table of docs/web.md."""
    options = parser("web_load", __doc__)
    options.add_argument("--project", type=Path, default=ROOT, help="checkout (default: this one)")
    options.add_argument("--requests", type=int, nargs="+", default=[100, 1000])
    options.add_argument("--megapixels", type=float, nargs="+", default=[0.1, 12])
    arguments = options.parse_args()
    project = str(arguments.project.resolve())
    command = [sys.executable, "-m", "app.web", "--port", "0", "--no-open", "--project", project]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    timer = threading.Timer(START_SECONDS, server.kill)
    timer.start()
    try:
        address = next((word for line in server.stdout or () for word in line.split() if "://" in word), "")
        timer.cancel()
        port = urlsplit(address).port
        if not port:
            raise SystemExit("the server did not start")
        print("| requests at once | image | answered | rejected (503) | no answer | last after | before | peak |")
        print("|---|---|---|---|---|---|---|---|")
        for megapixels, count in itertools.product(arguments.megapixels, arguments.requests):
            print(crowd(server.pid, port, megapixels, count), flush=True)
            if send(port, image(0.1), 1) != {"200": 1}:
                raise SystemExit("it does not recover")
    finally:
        timer.cancel()
        server.terminate()
        server.wait(60)


def crowd(pid: int, port: int, megapixels: float, count: int) -> str:
    """Uploads an image many times at once; returns the row of the table."""
    content = image(megapixels)
    start = time.perf_counter()
    with Memory(pid) as memory:
        statuses = send(port, content, count)
    seconds = time.perf_counter() - start
    if set(statuses) - set(STATUSES):
        raise SystemExit(f"other answers: {statuses}")
    row = [f"{count:,}", f"{megapixels:g} megapixels, {len(content) / 1e6:.1f} MB"]
    row += [f"{statuses[status]:,}" for status in STATUSES]
    row += [f"{seconds:.1f} s", f"{memory.before_mib:,.0f} MiB", f"{memory.resident_mib:,.0f} MiB"]
    return f"| {' | '.join(row)} |"


def image(megapixels: float) -> bytes:
    """Returns a JPEG of 4:3 with fine detail, about 0.4 bytes a pixel."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    height = round(width * 3 / 4)
    slope = np.linspace(0, 200, width, dtype=np.float32)[None, :, None]
    noise = np.random.default_rng(0).integers(0, 24, (height, width, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray((slope + noise).astype(np.uint8)).save(out, "JPEG", quality=85)
    return out.getvalue()


def send(port: int, image: bytes, count: int) -> Counter[str]:
    """Uploads an image many times at once, as a browser does; returns the number of answers by status."""
    body = PART + image + b"\r\n--x--\r\n"
    content = f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body

    async def everyone() -> list[str]:
        return await asyncio.gather(*(asyncio.wait_for(one(port, content), ANSWER_SECONDS) for _ in range(count)))

    return Counter(asyncio.run(everyone()))


async def one(port: int, content: bytes) -> str:
    """Sends a request and reads its answer, also one that comes before all of it is sent."""
    writer = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(content)
        answer = await reader.read()
        return answer[9:12].decode() or NO_ANSWER
    except OSError:
        return NO_ANSWER
    finally:
        if writer:
            writer.close()


if __name__ == "__main__":
    main()
