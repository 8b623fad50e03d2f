"""Near-duplicates: the share of copies that are found, of distinct images that pass for copies, CPU seconds and memory.

Copies of some images of each set are put among its images, in one search: the first images are resized, the next ones
recompressed, and so on. "distinct" are images that pass for copies of other images of the set as published; where
--by-eye names the pairs that are copies indeed (CSV: set, first, second), it stands without these.
Run: python -m benchmarks.near_duplicates caltech101=ARCHIVE.zip fashion_mnist [--images 4000] [--copies 500]
"generated" is a set of any size, for its cost.
"""

import csv
import io
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.shared import parser, run, stage, write_params
from stages.library.common.artifacts import sha256_bytes, sha256_file
from stages.library.duplicates.miniatures import miniatures
from stages.library.duplicates.search import near_duplicates
from stages.library.preparation.normalisation import normalise
from stages.library.settings import load_params
from stages.library.sources import contract as datasets
from stages.library.sources.contract import SourceImage

SMALL_PX = 64  # smaller images are kept without loss, as the data sets of such images are
PEAK_UNIT = 1 if sys.platform == "darwin" else 1024
Named = tuple[str, bytes]


def main() -> None:
    """Prints the table."""
    options = parser("near_duplicates", __doc__)
    options.add_argument("sets", nargs="+", metavar="NAME[=ARCHIVE]", help="data sets")
    options.add_argument("--images", type=int, default=4000, help="of each set, at random")
    options.add_argument("--copies", type=int, default=500, help="of each kind")
    options.add_argument("--px", type=int, help="shrink the longer side of each image to so much before")
    options.add_argument("--by-eye", type=Path, help="pairs that are no distinct images")
    options.add_argument("--found", type=Path, help="writes the pairs among the images as published there")
    arguments = options.parse_args()
    by_eye = set(map(tuple, read(arguments.by_eye))) if arguments.by_eye else set()
    print(
        " | ".join(["", "set, images", *KINDS, "distinct", "pairs (by eye)", "CPU seconds", "GB", ""]).strip(),
        flush=True,
    )
    pairs = []
    for given in arguments.sets:
        name, _, archive = given.partition("=")
        images = generated(arguments.images) if name == "generated" else published(name, archive, arguments.images)
        shrunk = ((title, shrink(content, arguments.px)) for title, content in images)
        cells, found = measured(shrunk, arguments.copies)
        copies = {pair for pair in found if (name, *pair) in by_eye}
        distinct = len({title for pair in found - copies for title in pair}) / arguments.images
        cells.insert(len(KINDS), f"{distinct:.4f} | {len(found)} ({len(copies)})")
        print(" | ".join(["", f"{name}, {arguments.images:,}", *cells, ""]).strip(), flush=True)
        pairs += [(name, *pair) for pair in sorted(found)]
    if arguments.found:
        with arguments.found.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(pairs)


def read(path: Path) -> list[list[str]]:
    """Returns the rows of a CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def published(name: str, archive: str, count: int) -> Iterator[Named]:
    """Yields images of a published data set at random, as the pipeline keeps them; `archive` may be empty."""
    with tempfile.TemporaryDirectory() as folder:
        given = {"archive": archive, "archive_sha256": sha256_file(Path(archive))} if archive else {}
        params = write_params(Path(folder, "params.yaml"), {"dataset": {"name": name, **given}})
        run(stage("fetch", params=params, out=Path(folder, "raw")))
        found = datasets.lookup(name).read(load_params(params)["dataset"], Path(folder, "raw"))
        images = [(item.name, item.content) for item in found if isinstance(item, SourceImage)]
    images.sort(key=lambda image: image[0])
    for row in np.random.default_rng(0).permutation(len(images))[:count].tolist():
        yield images[row][0], normalise(images[row][1]).encoded


def generated(count: int) -> Iterator[Named]:
    """Yields images of 32 x 32 pixels, smooth shades with finer ones on them."""
    rng = np.random.default_rng(0)
    for number in range(count):
        layers = (
            Image.fromarray(rng.integers(0, 256, (side, side), np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)
            for side in (3, 6, 12)
        )
        content = io.BytesIO()
        Image.fromarray(np.mean(list(map(np.asarray, layers)), axis=0).astype(np.uint8)).save(
            content, "PNG", compress_level=1
        )
        yield str(number), content.getvalue()


def shrink(content: bytes, px: int | None) -> bytes:
    """Returns an image whose longer side is `px`, or the same where that is None."""
    if px is None:
        return content
    with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
        size = tuple(max(1, round(side * px / max(image.size))) for side in image.size)
        return encoded(image.resize(size, Image.Resampling.LANCZOS))


def measured(images: Iterable[Named], copies: int) -> tuple[list[str], set[tuple[str, str]]]:
    """Returns cells of the table, and the pairs of names that are found among the images as published."""
    names: list[str] = []
    keys: list[str] = []
    made: list[bytes] = []

    def every() -> Iterator[bytes]:
        for name, content in images:
            if len(names) < copies * len(KINDS):
                with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
                    copy = list(KINDS.values())[len(names) // copies]
                    made.append(
                        copy(image.convert("L" if image.mode == "L" else "RGB"), np.random.default_rng(len(names)))
                    )
            names.append(name)
            keys.append(sha256_bytes(content))
            yield content
        keys.extend(map(sha256_bytes, made))
        yield from made

    small = miniatures(every())
    started = time.process_time()
    pairs, _ = near_duplicates(np.array(keys), small)
    seconds = time.process_time() - started
    hits = pairs[pairs[:, 1] - pairs[:, 0] == len(names), 0]
    shares = [f"{share:.3f}" for share in np.bincount(hits // max(1, copies), minlength=len(KINDS)) / max(1, copies)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT / 1e9
    among = pairs[pairs[:, 1] < len(names)].tolist()
    return [*shares, f"{seconds:.0f}", f"{peak:.2f}"], {
        (min(names[a], names[b]), max(names[a], names[b])) for a, b in among
    }


def encoded(image: Image.Image, quality: int | None = None) -> bytes:
    """Returns a JPEG of some quality, or a PNG."""
    content = io.BytesIO()
    if quality is None:
        image.save(content, "PNG")
    else:
        image.save(content, "JPEG", quality=quality)
    return content.getvalue()


def kept(image: Image.Image, rng: np.random.Generator) -> bytes:
    """Returns a copy: small images as PNG, others as JPEG of a quality from 40 to 80."""
    return encoded(image, None if max(image.size) < SMALL_PX else int(rng.integers(40, 81)))


def resized(image: Image.Image, rng: np.random.Generator) -> bytes:
    """Changes the size: small images by some factors from 0.5 to 2, others by any from 0.25 to 0.75."""
    small = max(image.size) < SMALL_PX
    factor = rng.choice((0.5, 0.6, 0.75, 1.5, 2.0)) if small else rng.uniform(0.25, 0.75)
    width, height = (max(4, round(side * factor)) for side in image.size)
    return kept(image.resize((width, height), Image.Resampling.LANCZOS), rng)


def cut(image: Image.Image, rng: np.random.Generator, share: float) -> Image.Image:
    """Takes a share of each side away, divided at random between its ends."""
    lost = [max(1, round(side * share)) for side in image.size]
    left, top = (int(rng.integers(0, width + 1)) for width in lost)
    return image.crop((left, top, left + image.width - lost[0], top + image.height - lost[1]))


def mirrored(image: Image.Image) -> Image.Image:
    """Exchanges left and right."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


KINDS: dict[str, Callable[[Image.Image, np.random.Generator], bytes]] = {
    "resized": resized,
    "JPEG 40 to 80": lambda image, rng: encoded(image, int(rng.integers(40, 81))),
    "mirrored": lambda image, rng: kept(mirrored(image), rng),
    "cut 5%": lambda image, rng: kept(cut(image, rng, 0.05), rng),
    "cut 10%": lambda image, rng: kept(cut(image, rng, 0.1), rng),
    "mirrored, cut 5%": lambda image, rng: kept(mirrored(cut(image, rng, 0.05)), rng),
}


if __name__ == "__main__":
    main()
