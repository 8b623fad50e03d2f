"""Files that ask for more than their size says are rejected from their heads; good ones of every make are not."""

import itertools
import pickle
import re
import struct
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageFile

from checks import image_builders
from checks.image_builders import JPEG, PNG, chunk, encode, icon, photo, scans, tiff, with_parts
from stages.library.figures.thumbnails import decode
from stages.library.preparation import bitstreams, image_formats, image_heads, jpeg2000_heads, normalisation, tiff_heads
from stages.library.preparation.normalisation import ImageError, normalise
from tests import processes
from tests.hostile_images import EXIF, FILES, PROFILE, tiled_tiff
from tests.zoo import HEIGHT, KINDS, WIDTH, exif

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

MIB, CPU_SECONDS = 64, 5  # that all of them may take together, beyond a start

READ_ALL = """
import contextlib, resource, struct, sys, zlib

resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
PROGRAMS = "subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"
started = []
sys.addaudithook(lambda event, arguments: started.append((event, arguments)) if event in PROGRAMS else None)

from stages.library.preparation.normalisation import ImageError, normalise
from checks.image_builders import POSTSCRIPT, chunk, icon, iptc
from tests.hostile_images import FILES
from tests.memory import forget_peak, peak_mib
from tests.zoo import KINDS, bomb

def accepted(contents):
    count = 0
    for content in contents:
        with contextlib.suppress(ImageError):
            normalise(content)
            count += 1
    return count

squeezer = zlib.compressobj(9, wbits=-15)
block = squeezer.compress(bytes(90_001 * 100)) + squeezer.flush(zlib.Z_FULL_FLUSH)  # of 100 rows, which may be repeated
rows = b"\\x78\\xda" + block * 300 + b"\\3\\0" + struct.pack(">I", 90_001 * 30_000 % 65521 << 16 | 1)
whole = bomb(30_000).partition(b"IDAT")[0][:-4] + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
assert len(whole) < 4 << 20, len(whole)
hostile = [kind.content for kind in KINDS if kind.name in FILES or kind.name.startswith("bomb")] + [whole, icon(whole)]
forget_peak()
mib, seconds = peak_mib(), sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
print(accepted(hostile), peak_mib() - mib, sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - seconds)
contents = [content for kind in KINDS for content in (kind.content, iptc(kind.content[:30_000]))] + [POSTSCRIPT]
print(accepted(contents), started)
"""


def test_hostile_files_cost_little_and_no_file_starts_a_program():
    """Neither the files as they are nor in IPTC, whose reader opens what it holds; nor 2.7 GB of pixels in 2.6 MB."""
    hostile, zoo = processes.run(sys.executable, "-c", READ_ALL).stdout.splitlines()
    accepted, mib, seconds = hostile.split()
    assert accepted == "0"
    assert int(mib) < MIB
    assert float(seconds) < CPU_SECONDS
    assert zoo == f"{sum(kind.accepted for kind in KINDS)} []"


@pytest.mark.parametrize("name", FILES)
def test_hostile_files_are_rejected_from_their_heads(name, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    make, reason = FILES[name]
    announced: list[int] = []
    with pytest.raises(ImageError) as caught:
        normalise(make(), before_decoding=announced.append)
    assert re.match(re.escape(reason) + r".*\Z", str(caught.value))
    assert announced == []


def test_every_image_is_opened_with_a_list_of_formats():
    """Else by whatever plug-in fits, of which Pillow loads all."""
    lines = [
        (path, line)
        for name in ("app", "stages", "benchmarks", "checks", ".ci", "docs")
        for path in sorted((ROOT / name).rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert [found for found in lines if re.search(r"import PIL\b|from PIL\.|\bImage(File)? as ", found[1])] == []
    opened = [found for found in lines if re.search(r"\bImage(File)?\.(open|Parser|init)\(", found[1])]
    assert len(opened) > 4
    for place, line in opened:
        (formats,) = re.findall(r"formats=([\w.]*FORMATS|\(.+?\))", line)
        assert set(re.findall(r'"(\w*)"', formats)) <= set(normalisation.FORMATS), place


def test_only_the_listed_plug_ins_are_loaded(tmp_path):
    """The zoo is made in this process, for Pillow loads all of them to save a PDF."""
    code = (
        "import contextlib, pickle, sys; from stages.library.preparation import normalisation as images\n"
        "for content in pickle.load(open(sys.argv[1], 'rb')):\n"
        "    with contextlib.suppress(images.ImageError): images.normalise(content)\n"
        "print(*(name for name in sys.modules if name.startswith('PIL.') and name.endswith('ImagePlugin')))"
    )
    (tmp_path / "zoo").write_bytes(pickle.dumps([kind.content for kind in KINDS]))
    loaded = processes.run(sys.executable, "-c", code, tmp_path / "zoo").stdout.split()
    assert set(loaded) == {f"PIL.{name}ImagePlugin" for name in image_formats.PLUGINS}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA", "ICO"])
def test_the_limit_of_pixels_is_any(kind):
    image = photo().crop((0, 0, 40, 40)).quantize(8) if kind == "GIF" else photo().crop((0, 0, 40, 40))
    content = encode(image, kind, **({"sizes": [(40, 40)]} if kind == "ICO" else {}))
    assert normalise(content, max_pixels=1600).width == 40
    with pytest.raises(ImageError, match=r"more than 0\.001599 megapixels: 40 x 40 px"):
        normalise(content, max_pixels=1599)


def test_a_size_that_changes_in_decoding_is_rejected(monkeypatch):
    load = ImageFile.ImageFile.load

    def grown(image):
        load(image)
        image._size = (image.width, image.height + 1)

    monkeypatch.setattr(ImageFile.ImageFile, "load", grown)
    with pytest.raises(ImageError, match=f"damaged: {WIDTH} x {HEIGHT + 1} px where its head says {WIDTH} x {HEIGHT}"):
        normalise(encode(photo(), "BMP"))


def test_an_icon_has_the_size_of_what_it_holds():
    png = normalise(icon(encode(photo(), "PNG")))
    assert (png.width, png.height) == (WIDTH, HEIGHT)
    rows = np.asarray(photo().convert("RGBA"))[::-1, :, [2, 1, 0, 3]].tobytes()
    bitmap = normalise(icon(image_builders.bitmap(WIDTH, 2 * HEIGHT, 32, data=rows)))
    np.testing.assert_array_equal(decode(bitmap.encoded), np.asarray(photo()))


def many(mode="RGB", side=400):
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    return Image.fromarray(noise).convert(mode)


LAYERS = {"quality_layers": [80, 40, 20, 10, 5, 2], "quality_mode": "rates", "irreversible": True}
GOOD = [
    *(
        ("JPEG", {"progressive": progressive, "optimize": optimize, "subsampling": subsampling, "exif": exif(1)})
        for progressive, optimize, subsampling in itertools.product((False, True), (False, True), (0, 2))
    ),
    ("JPEG", {"icc_profile": bytes(2_000_000), "comment": b"x" * 60_000, "restart_marker_rows": 1}),
    *(
        ("JPEG2000", {"precinct_size": (side, side), "codeblock_size": (side // 4,) * 2, "num_resolutions": 6})
        for side in (256, 128, 64)
    ),
    *(
        ("JPEG2000", {"tile_size": (128, 128), "progression": name, "no_jp2": name == "LRCP", **LAYERS})
        for name in ("LRCP", "RLCP", "RPCL", "PCRL", "CPRL")
    ),
    *(("TIFF", {"compression": name}) for name in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd")),
    ("TIFF", {"compression": "tiff_lzw", "strip_size": 1}),
    ("TIFF", {"compression": None, "big_tiff": True}),
    ("TIFF", {"compression": "tiff_lzw", "big_tiff": True, "exif": exif(1), "icc_profile": bytes(900_000)}),
    ("MPO", {"save_all": True, "append_images": [many()] * 30}),
    ("PNG", {"optimize": True, "icc_profile": bytes(900_000)}),
    ("PNG", {"save_all": True, "append_images": [many().rotate(90)] * 9}),
    ("GIF", {"save_all": True, "append_images": [many().rotate(90)], "comment": b"x" * 60_000}),
    ("WEBP", {"save_all": True, "append_images": [many().rotate(90)] * 3, "exif": exif(1), "icc_profile": bytes(900)}),
    ("AVIF", {"tile_rows": 1, "tile_cols": 1, "save_all": True, "append_images": [many()]}),
    ("ICO", {"append_images": [many(side=32), many(side=64)]}),
    ("PPM", {}),
    ("TGA", {"compression": "tga_rle"}),
]


@pytest.mark.parametrize(("kind", "options"), GOOD, ids=lambda value: value if isinstance(value, str) else "")
def test_good_files_of_every_make_are_used(kind, options):
    for mode in ("RGB", "L"):
        result = normalise(encode(many(mode), kind, **options))
        assert result.width == result.height == (256 if kind == "ICO" else 400)


def test_parts_up_to_the_limits_are_used():
    assert normalise(scans(800, bitstreams.SCANS - 1)).width == 800
    assert normalise(with_parts(JPEG, EXIF * bitstreams.EXIF_SEGMENTS)).width == WIDTH
    assert normalise(with_parts(PNG, chunk(b"abCd", b"") * (bitstreams.CHUNKS - 4))).width == WIDTH
    assert normalise(with_parts(PNG, PROFILE * bitstreams.PACKED_CHUNKS)).width == WIDTH
    assert normalise(image_builders.jpeg2000(1060, precinct=2)).width == 1060
    assert normalise(image_builders.gif(WIDTH, HEIGHT, b"!\xfe" + b"\1x" * 99_000 + b"\0")).width == WIDTH


def test_odd_tiffs_are_used():
    """A tile larger than the image; a chain of directories that loops, read once."""
    tile = photo().convert("L").resize((256, 256))
    fields = (322, 256), (323, 256), (324, 8), (325, 256 * 256), (262, 1)
    content = tiff(200, 100, *fields, places=tile.tobytes())
    np.testing.assert_array_equal(decode(normalise(content).encoded)[..., 0], np.asarray(tile)[:100, :200])
    content = tiff(9, 9, (273, 8), (278, 9), (279, 81), places=bytes(range(81)))
    looped = content[:-4] + content[4:8]
    assert decode(normalise(looped).encoded)[..., 0].ravel().tolist() == list(range(81))


def check_icon(content, max_pixels):
    return image_heads.check_bitmap(image_heads.in_icon(content), max_pixels)


@pytest.mark.parametrize("check", [jpeg2000_heads.check, tiff_heads.check, image_heads.check, check_icon])
def test_damaged_heads_are_rejected_or_passed_on(check):
    """Whatever bytes come, no other error than what `normalise` makes a reason of."""
    dice = np.random.default_rng(0)
    whole = [image_builders.jpeg2000(99, tile=33), tiled_tiff(64), encode(photo(), "JPEG2000")]
    whole += [encode(photo(), "WEBP"), encode(photo().quantize(8), "GIF")]
    whole += [encode(photo(), "ICO", sizes=[(32, 32)], bitmap_format=kind) for kind in ("png", "bmp")]
    for content, _ in itertools.product(whole, range(300)):
        damaged = bytearray(content)
        for place in dice.integers(8, min(len(content), 200), 3):
            damaged[place] = dice.choice([0, 1, 255, int(dice.integers(256))])
        try:
            check(bytes(damaged[: dice.integers(20, len(damaged))]), normalisation.MAX_PIXELS)
        except (ImageError, SyntaxError, OSError, ValueError, IndexError, struct.error):
            continue
