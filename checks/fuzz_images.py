"""Images, as the fuzzer sees them."""

import contextlib
import itertools
import random
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from checks import fuzz_formats
from checks import image_builders as make
from checks.fuzz_formats import kind_of
from checks.fuzz_mutations import LARGEST_BYTES
from checks.image_builders import POSTSCRIPT, chunk, directory, icon, segment, with_parts
from stages.library.figures import thumbnails
from stages.library.preparation import normalisation

# What reading an image may take, and an accepted one beside that for each of its pixels.
IMAGE_BYTES, IMAGE_SECONDS = 600 << 20, 5.0
PIXEL_BYTES, PIXEL_SECONDS = 16, 1e-7


def image(kind: str, mode: str = "RGB", side: int = 12, **options: Any) -> bytes:
    """Returns a small image of random pixels in a file format of Pillow."""
    pixels = np.random.default_rng(0).integers(0, 256, (side * 3 // 4, side, 3), np.uint8)
    return make.encode(Image.fromarray(pixels).convert(mode), kind, **options)


def _grey_tiff(order: str, tiled: bool, packed: bool) -> bytes:
    """Returns a square of 16 px, in one tile or one strip."""
    data = zlib.compress(bytes(256)) if packed else bytes(256)
    fields = {277: 1, 322: 16, 323: 16, 324: 8, 325: len(data)} if tiled else {273: 8, 277: 1, 278: 16, 279: len(data)}
    places = data + bytes(len(data) % 2)
    return make.tiff(16, 16, *fields.items(), compression=8 if packed else 1, order=order, places=places)


def seeds(folder: Path) -> list[bytes]:
    """Images of many formats and modes, several frames and pages among them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [Image.new("RGB", (12, 9), colour) for colour in ("red", "blue")]
    kinds = "PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "ICO", "TGA", "JPEG2000", "AVIF"
    modes = [("PNG", "P"), ("PNG", "RGBA"), ("PNG", "I;16"), ("JPEG", "L"), ("JPEG", "CMYK"), ("BMP", "1")]
    code = partial(image, "JPEG2000", side=64, no_jp2=True)
    return [
        *map(image, kinds),
        *itertools.starmap(image, modes),
        *(image(kind, save_all=True, append_images=frames) for kind in ("GIF", "WEBP", "PNG", "MPO")),
        *(image(kind, exif=exif) for kind in ("JPEG", "PNG")),
        image("JPEG", progressive=True, quality=20),
        image("PNG", "P", bits=2),
        *(code(mode=mode) for mode in ("L", "RGB")),
        code(tile_size=(32, 32), num_resolutions=3),
        code(mode="L", precinct_size=(64, 64)),
        *(_grey_tiff(*each) for each in itertools.product("<>", (False, True), (False, True))),
        make.tiff_jpeg(image("JPEG", "L", 16), 16, 12),
        icon(make.large_png(16)),
        icon(make.bitmap(16, 32, 32, data=bytes(16 * 16 * 4 + 64))),
    ]


def change(content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """Returns an image after one change; or within another file or beside another, of whatever kind both are."""
    if rng.random() >= 0.06:
        return fuzz_formats.change(content, seeds, rng)
    content, other = content[: LARGEST_BYTES // 4], rng.choice(seeds)[: LARGEST_BYTES // 4]
    side, times = rng.choice((0, 1, 16, 9999, 2**32 - 1)), rng.choice((0, 1, 2, 40, 4000, 2**32 - 1))
    holders: list[Callable[[], bytes]] = [
        *(partial(holder, content) for holder in (make.iptc, icon, make.jp2)),
        lambda: icon(content, min(times, 5000)),
        lambda: make.tiff_jpeg(content, side, side),
        lambda: content + other,
    ]
    if kind_of(content) == "png":
        holders.append(lambda: with_parts(content, chunk(b"eXIf", other)))
    if kind_of(content) == "jpeg":
        exif = segment(0xE1, b"Exif\0\0" + other[:60_000]) * min(times, 40)
        holders += [lambda: with_parts(content, exif), lambda: mpo(content, other, times)]
    return rng.choice(holders)()


def mpo(first: bytes, other: bytes, count: int = 2) -> bytes:
    """Returns a JPEG that says that so many images, of which one is there, begin at its end."""
    entries = struct.pack("<IIIHH", 0x030000, len(other), len(first), 0, 0) * min(max(count, 2), 4000)
    fields = (0xB000, (7, 4, int.from_bytes(b"0100", "little"))), (0xB001, count), (0xB002, (7, len(entries), 8))
    head = segment(0xE2, b"MPF\0" + directory(fields, places=entries)) if len(entries) < 65_000 else b""
    return with_parts(first, head) + other


def hostile() -> dict[str, Callable[[], bytes]]:
    """Returns makers of files that must be rejected, or read at little cost."""
    endless = cache(lambda: b"a\0\0" + zlib.compress(bytes(1 << 28)))
    small = [(273, 8), (279, 16), (34_665, 24)]  # 24 is the directory's own place
    photoshop = segment(0xED, b"Photoshop 3.0\0" + b"8BIM" * 16_000) * 40
    return {
        "postscript": lambda: POSTSCRIPT,
        "iptc of iptc of postscript": lambda: make.iptc(make.iptc(POSTSCRIPT)),
        "icon of 5000 images": lambda: icon(image("PNG", side=500), 5000),
        "jp2 of a large codestream": lambda: make.jp2(make.jpeg2000(40_000)),
        "tiff of a large jpeg": lambda: make.tiff_jpeg(make.scans(13_200, 1), 16, 16),
        "photoshop without end": lambda: with_parts(make.JPEG, photoshop),
        "4,000 frames of an mpo": lambda: mpo(image("JPEG"), image("JPEG"), 4000),
        "text without end": lambda: with_parts(make.PNG, chunk(b"zTXt", endless())),
        "profile without end": lambda: with_parts(make.PNG, chunk(b"iCCP", endless())),
        "avif that says it is nearly too large": lambda: make.avif(9999),
        **{f"loop of {order}": partial(directory, small, order, False, 24, bytes(16)) for order in "<>"},
    }


class LimitError(Exception):
    """Reading took too much; `str(error)` says of what."""


def _peak_bytes() -> int:
    """Returns the peak of this process's resident memory since it was last reset."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


@contextlib.contextmanager
def limited(memory_bytes: int, cpu_seconds: float, about: str) -> Iterator[list[int]]:
    """Raises LimitError where a block takes more CPU time or memory, or runs out of it, whatever came of that.

    It may take more for pixels that were accepted, whose number is to be added to what this yields.
    """
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is what is in use now
    before, started, pixels = _peak_bytes(), time.process_time(), list[int]()
    what, full = f"accepted {about}", False
    try:
        yield pixels
    except Exception as error:
        what = f"rejected {about}"
        cause: BaseException | None = error
        while cause:
            full |= isinstance(cause, MemoryError) or "out of memory" in str(cause)
            cause = cause.__cause__ or cause.__context__
        raise
    finally:
        seconds, taken = time.process_time() - started, _peak_bytes() - before
        if full or taken > memory_bytes + PIXEL_BYTES * sum(pixels):
            raise LimitError(f"crash: memory: more than {memory_bytes >> 20} MiB for {what}")
        if seconds > cpu_seconds + PIXEL_SECONDS * sum(pixels):
            raise LimitError(f"hang: more than {cpu_seconds:g} s of CPU time for {what}")


def read(content: bytes, folder: Path) -> None:
    """An image of a data set, of the command line or of the web page."""
    with limited(IMAGE_BYTES, IMAGE_SECONDS, kind_of(content)) as pixels:
        found = normalisation.normalise(content)
        pixels.append(found.height * found.width)
    shape = thumbnails.decode(found.encoded).shape
    assert shape == (found.height, found.width, 3), "its stated size is that of its pixels"
