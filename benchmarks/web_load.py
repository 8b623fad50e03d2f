"""Crowds at the web page: how many requests at once are answered, what becomes of the others, and the server's memory.

Starts the server with its default limits on a free port of this machine, and talks to no other. What is too much
must be rejected with status 503; afterwards a single request must be answered as before. Linux only. Takes minutes.
Run: python -m benchmarks.web_load [--project FOLDER] [--requests 100 1000] [--megapixels 0.1 12]
"""

import argparse
import asyncio
import io
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from benchmarks.extraction import ROOT

START_SECONDS, ANSWER_SECONDS = 300, 180
NO_ANSWER = "none"
HEAD = "POST /classify HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
HEAD += "Content-Type: multipart/form-data; boundary=x\r\n"
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'


@dataclass(frozen=True)
class Crowd:
    """What became of some requests at once: counts by status, the seconds until the last answer, MiB of memory."""

    statuses: Counter[str]
    seconds: float
    before_mib: int
    peak_mib: int


class Memory:
    """The resident memory of a process, looked at every 20 ms."""

    def __init__(self, pid: int):
        self._status = Path(f"/proc/{pid}/status")
        self.peak_mib = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def now_mib(self) -> int:
        found = re.search(r"VmRSS:\s+(\d+)", self._status.read_text(encoding="utf-8"))
        return int(found[1]) >> 10 if found else 0

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self.peak_mib = max(self.peak_mib, self.now_mib())

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def main() -> None:
    """Prints the table of docs/web.md."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.web_load", usage="%(prog)s [options]", description=__doc__
    )
    parser.add_argument("--project", type=Path, default=ROOT, help="checkout (default: this one)")
    parser.add_argument("--requests", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.1, 12])
    arguments = parser.parse_args()
    if sys.platform != "linux":
        raise SystemExit("benchmarks.web_load reads /proc: Linux only")
    command = [
        sys.executable,
        "-m",
        "app.web",
        "--port",
        "0",
        "--no-open",
        "--project",
        str(arguments.project.resolve()),
    ]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    timer = threading.Timer(START_SECONDS, server.kill)
    timer.start()
    try:
        address = urlsplit(next((word for line in server.stdout or () for word in line.split() if "://" in word), ""))
        timer.cancel()
        if not address.port:
            raise SystemExit("the server did not start")
        print("| requests at once | image | answered | rejected (503) | no answer | last after | before | peak |")
        print("|---|---|---|---|---|---|---|---|")
        for megapixels in arguments.megapixels:
            content = image(megapixels)
            for count in arguments.requests:
                found = send(server.pid, address.port, request(content), count)
                row = [f"{found.statuses[status]:,}" for status in ("200", "503", NO_ANSWER)]
                shown = f"{megapixels:g} megapixels, {len(content) / 1e6:.1f} MB"
                memory = f"{found.before_mib:,} MiB | {found.peak_mib:,} MiB"
                print(f"| {count:,} | {shown} | {' | '.join(row)} | {found.seconds:.1f} s | {memory} |", flush=True)
                if set(found.statuses) - {"200", "503", NO_ANSWER}:
                    raise SystemExit(f"other answers: {found.statuses}")
                if send(server.pid, address.port, request(image(0.1)), 1).statuses != {"200": 1}:
                    raise SystemExit("it does not recover")
    finally:
        timer.cancel()
        server.terminate()
        server.wait(60)


def image(megapixels: float) -> bytes:
    """Returns a JPEG of 4:3 with fine detail, about 0.4 bytes a pixel."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    height = round(width * 3 / 4)
    slope = np.linspace(0, 200, width, dtype=np.float32)[None, :, None]
    noise = np.random.default_rng(0).integers(0, 24, (height, width, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray((slope + noise).astype(np.uint8)).save(out, "JPEG", quality=85)
    return out.getvalue()


def request(content: bytes) -> bytes:
    """Returns an upload as a browser sends it."""
    body = PART + content + b"\r\n--x--\r\n"
    return f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body


def send(pid: int, port: int, content: bytes, count: int) -> Crowd:
    """Sends a request many times at once and waits for all answers."""
    memory = Memory(pid)
    before, start = memory.now_mib(), time.perf_counter()
    with memory:
        statuses = asyncio.run(crowd(port, content, count))
    return Crowd(Counter(statuses), time.perf_counter() - start, before, memory.peak_mib)


async def crowd(port: int, content: bytes, count: int) -> list[str]:
    """Returns the status of each request, or `NO_ANSWER`."""
    return await asyncio.gather(*(asyncio.wait_for(one(port, content), ANSWER_SECONDS) for _ in range(count)))


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
