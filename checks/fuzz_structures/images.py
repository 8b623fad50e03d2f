"""Images: the structure of whatever kind some bytes are, and hostile ones of each kind."""

import functools
import io
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from PIL import Image

from checks.fuzz_structures import boxes, chunks, containers, icons, jpeg, jpeg2000, tiff
from checks.fuzz_structures.parts import Part

LARGE_PX = 13_200  # side of a square over the limit of 100 megapixels, and under that of Pillow
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n0 0 16 16 rectfill\nshowpage\n"

PHOTOSHOP = b"Photoshop 3.0\0" + b"8BIM" * 16_000


class Structure(Protocol):
    """A kind of file whose parts are known."""

    def starts(self, content: bytes, /) -> bool:
        """Whether some bytes begin as this kind does."""

    def change(self, content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
        """Returns the file after one change that leaves its structure right."""


class _Tiff:
    starts = staticmethod(tiff.starts)
    change = staticmethod(tiff.change)


class _Icon:
    starts = staticmethod(icons.ICO_FIELDS.starts)

    @staticmethod
    def change(content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
        """Changes the directory, or the first image within."""
        start = int.from_bytes(content[18:22], "little")
        if rng.random() < 0.5 or not 22 <= start < len(content):
            return icons.ICO_FIELDS.change(content, seeds, rng)
        return icons.ico([change(content[start:], seeds, rng)])


class _Ppm:
    @staticmethod
    def starts(content: bytes) -> bool:
        """Whether some bytes begin as a PPM does."""
        return content[:1] == b"P" and content[1:2].isalnum()

    @staticmethod
    def change(content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
        """Changes the head."""
        return icons.change_ppm(content, rng)


STRUCTURES: dict[str, Structure] = {
    "jpeg": jpeg.STRUCTURE,
    "png": chunks.PNG_STRUCTURE,
    "webp": chunks.WEBP_STRUCTURE,
    "gif": icons.GIF,
    "tiff": _Tiff(),
    "j2k": jpeg2000.STRUCTURE,
    "boxes": boxes.STRUCTURE,
    "ico": _Icon(),
    "bmp": icons.BMP,
    "tga": icons.TGA,
    "ppm": _Ppm(),
}


def kind(content: bytes) -> str:
    """Returns the name of the structure that some bytes have, or "other"."""
    return next((name for name, structure in STRUCTURES.items() if structure.starts(content)), "other")


def change(content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """Returns an image after one change of its structure, or within another file."""
    structure = STRUCTURES.get(kind(content))
    if structure is None or rng.random() < 0.06:
        return containers.wrap(content, seeds, rng)
    return structure.change(content, seeds, rng)


def written(kind: str, mode: str = "L", side: int = 16, **options: Any) -> bytes:
    """Returns a grey square, or one of another mode, as Pillow writes it."""
    buffer = io.BytesIO()
    Image.new(mode, (side, side), 7 if mode in ("L", "P") else None).save(buffer, kind, **options)
    return buffer.getvalue()


def seeds() -> list[bytes]:
    """Returns valid images of the kinds that Pillow's own writers do not cover."""
    code = written("JPEG2000", side=64, no_jp2=True)
    pixels, photo = chunks.png(16), written("JPEG")
    return [
        *tiff.seeds(),
        code,
        boxes.jp2(written("JPEG2000", no_jp2=True)),
        written("JPEG2000", "RGB", 64, no_jp2=True, tile_size=(32, 32), num_resolutions=3),
        written("AVIF", "RGB"),
        icons.ico([pixels]),
        icons.ico([icons.bitmap(16, 32, 32, data=bytes(16 * 16 * 4 + 64), file=False)]),
        icons.bitmap(16, 16, data=bytes(64)),
        containers.mpo(photo, [photo]),
        jpeg.with_metadata(photo, b"\xff\xe1", b"Exif\0\0" + containers.exif(photo), 1),
        chunks.png(16, colours=0, depth=16),
        chunks.png(16, colours=3, depth=2),
        tiff.pixels("<", photo, 16, compression=containers.JPEG_IN_TIFF),
    ]


def _with_packed(kind: bytes, size: int, times: int = 1) -> bytes:
    """Returns a PNG with chunks of so many zeros, packed."""
    return chunks.with_chunk(chunks.png(16), Part(kind, b"a\0\0" + chunks.packed_zeros(size)), times)


@functools.cache
def hostile() -> dict[str, Callable[[], bytes]]:
    """Returns makers of files that must be rejected, or read at little cost."""
    large = functools.cache(lambda: chunks.png(LARGE_PX))
    photo = functools.cache(lambda: written("JPEG"))
    code = functools.cache(lambda: written("JPEG2000", side=64, no_jp2=True))
    made: dict[str, Callable[[], bytes]] = {
        "postscript": lambda: POSTSCRIPT,
        "iptc of postscript": lambda: containers.iptc(POSTSCRIPT),
        "iptc of iptc of postscript": lambda: containers.iptc(containers.iptc(POSTSCRIPT)),
        "iptc of a large png": lambda: containers.iptc(large()),
        "icon of a large png": lambda: icons.ico([large()]),
        "icon of a large bitmap": lambda: icons.ico([icons.bitmap(30_000, 60_000, file=False)]),
        "icon of 5000 images": lambda: icons.same_ico(chunks.png(500), 5000),
        "icns of a large png": lambda: containers.icns(large()),
        "jp2 of a large codestream": lambda: boxes.jp2(jpeg2000.large(code(), 40_000, 40_000)),
        "precincts of a pixel": lambda: jpeg2000.large(code(), 3000, 3000, precincts=0),
        "precincts of two pixels": lambda: jpeg2000.large(code(), 3000, 3000, precincts=0x11),
        "tiles of a pixel": lambda: jpeg2000.large(code(), 9000, 9000, tile=1),
        "precincts in 65,535 layers": lambda: jpeg2000.with_layers(
            jpeg2000.large(code(), 100, 100, precincts=0x11), 65_535
        ),
        "65,535 layers": lambda: jpeg2000.with_layers(code(), 65_535),
        "10,000 components": lambda: jpeg2000.with_components(jpeg2000.large(code(), 9000, 9000), 10_000),
        "4,000 scans": lambda: jpeg.progressive(6000, 4000),
        "900,000 small metadata": lambda: jpeg.with_metadata(photo(), b"\xff\xe1", b"Exif\0\0q", 900_000),
        "100,000 profiles": lambda: jpeg.with_metadata(photo(), b"\xff\xe2", b"ICC_PROFILE\0\1\1q", 100_000),
        "photoshop without end": lambda: jpeg.with_metadata(photo(), b"\xff\xed", PHOTOSHOP, 40),
        "4,000 frames of an mpo": lambda: containers.mpo(photo(), [photo()], 4000),
        "tiff of a large jpeg": lambda: containers.tiff_of_jpeg(jpeg.progressive(LARGE_PX, 1)),
        "text without end": lambda: _with_packed(b"zTXt", 1 << 28),
        "profile without end": lambda: _with_packed(b"iCCP", 1 << 28),
        "10,000 profiles of a megabyte": lambda: _with_packed(b"iCCP", 1 << 20, 10_000),
        "200,000 empty chunks": lambda: chunks.with_chunk(chunks.png(16), Part(b"IDAT", b""), 200_000),
        "avif that says it is large": lambda: boxes.resized(written("AVIF", "RGB"), 60_000, 60_000),
        "avif that says it is nearly too large": lambda: boxes.resized(written("AVIF", "RGB"), 9999, 9999),
    }  # fmt: skip
    return made | {f"tiff {n}": functools.partial(lambda n: tiff.hostile()[n], n) for n in range(len(tiff.hostile()))}
