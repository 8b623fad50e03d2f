"""What the fuzzer knows of files: its changes leave their structure right, so that most get past the first check."""

import contextlib
import io
import json
import random
import re
import warnings
import zlib
from pathlib import Path

import pytest
from PIL import Image, IptcImagePlugin
from ruamel.yaml import YAML

from checks import fuzz_formats, fuzz_images, fuzz_mutations, fuzz_readers, fuzz_text, image_builders
from checks.fuzz_formats import kind_of
from checks.image_builders import icon, iptc, large_png
from stages.library.preparation import normalisation

SEEDS = fuzz_images.seeds(Path())
FORMATS = "JPEG", "PNG", "WEBP", "GIF", "TIFF", "JPEG2000", "AVIF", "ICO", "BMP", "TGA", "PPM"


def recognised(content):
    """Whether Pillow takes a file's head for that of an image."""
    with warnings.catch_warnings(action="ignore"):
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS):
                return True
        except Image.DecompressionBombError:
            return True  # its size was read
        except Exception:  # noqa: BLE001 - broken files make Pillow raise anything
            return False


def test_all_seeds_are_images_and_there_are_some_of_each_kind():
    for content in SEEDS:
        with Image.open(io.BytesIO(content), formats=normalisation.FORMATS) as image:
            image.load()
    assert {kind_of(content) for content in SEEDS} >= set(fuzz_formats.FORMATS)


@pytest.mark.parametrize("begin", [*fuzz_formats.TIFF, fuzz_formats.ICON, *fuzz_formats.FORMATS])
def test_a_file_is_the_sum_of_its_parts_and_a_third_of_the_changed_ones_get_past_the_first_check(begin):
    seeds = [content for content in SEEDS if begin in (content[:4], kind_of(content))]
    for content in seeds if begin in fuzz_formats.FORMATS else ():
        layout = fuzz_formats.FORMATS[begin]
        assert len(layout.split(content)) >= 2
        assert layout.join(layout.split(content)) == content
    changed = [fuzz_formats.change(random.Random(n).choice(seeds), seeds, random.Random(n)) for n in range(150)]
    assert len(set(changed)) > 30
    assert sum(map(recognised, changed)) >= 50


@pytest.mark.slow
def test_the_checksums_of_a_changed_png_are_right():
    seen = 0
    for seed in range(60):
        rng, content, at = random.Random(seed), large_png(16), 8  # behind the signature
        for _ in range(rng.randint(1, 4)):
            content = fuzz_formats.FORMATS["png"].change(content, [content], rng)
        while content[at + 4 : at + 8].isalpha():  # to what was put in that is no chunk
            end = at + 8 + int.from_bytes(content[at : at + 4], "big")
            if content[:8] != large_png(16)[:8] or end + 4 > len(content):
                break
            assert zlib.crc32(content[at + 4 : end]) == int.from_bytes(content[end : end + 4], "big")
            at, seen = end + 4, seen + 1
    assert seen > 150


@pytest.mark.parametrize("seed", range(0, 10**9, 6_700_001))
def test_any_seed_gives_a_variant_of_bounded_size(seed):
    content = fuzz_mutations.variant(SEEDS, random.Random(seed), fuzz_images.change)
    assert len(content) <= fuzz_mutations.LARGEST_BYTES
    assert fuzz_mutations.variant(SEEDS, random.Random(seed), fuzz_images.change) == content


def test_files_within_files_are_whole():
    inner, photo = large_png(16), fuzz_images.image("JPEG")
    code = image_builders.jp2(fuzz_images.image("JPEG2000", "L", 16, no_jp2=True))
    for kind, content in {"ICO": icon(inner), "MPO": fuzz_images.mpo(photo, photo), "JPEG2000": code}.items():
        with Image.open(io.BytesIO(content), formats=["ICO", *normalisation.FORMATS]) as image:
            assert (image.format, getattr(image, "n_frames", 1)) == (kind, 1 + (kind == "MPO"))
            assert kind == "MPO" or image.size == (16, 16)
    with IptcImagePlugin.IptcImageFile(io.BytesIO(iptc(inner))) as image:
        assert image.size == (9, 9)


def test_hostile_images_are_small_and_aliases_stand_for_as_many_items_as_they_say():
    assert all(10 < len(make()) < 12_000_000 for make in fuzz_images.hostile().values())
    found = YAML(typ="safe", pure=True).load(fuzz_text.aliases(3, 3))["level_2"]
    assert sum(len(inner) for middle in found for inner in middle) == 27


@pytest.mark.parametrize(
    ("change", "document", "load"),
    [
        (fuzz_text.change_yaml, b"a: [1, 2]\nb: {c: 1}\nd: x\n", YAML(typ="safe", pure=True).load),
        (fuzz_text.change_json, b'{\n  "a": [\n    1,\n    {}\n  ],\n  "c": "x"\n}', json.loads),
    ],
)
def test_documents_are_changed_in_ways_that_parsers_take_and_that_they_reject(change, document, load):
    taken = 0
    changed = [change(document, [], random.Random(number)) for number in range(300)]
    for content in (content for content in changed if len(content) <= 5000):
        with contextlib.suppress(Exception):  # of any kind, as a parser's are
            load(content)
            taken += 1
    assert 60 < taken < 280


def test_json_keys_come_twice_and_csv_cells_are_changed():
    document = b'{\n  "a": 1,\n  "b": 2\n}'
    texts = [fuzz_text.change_json(document, [], random.Random(n)).decode(errors="replace") for n in range(300)]
    assert any(len(re.findall(r'"a":', text)) == 2 for text in texts)
    assert any("NaN" in text for text in texts)
    hostile = set(fuzz_text.hostile_json(document))
    assert {b"null", b'{\n  "a": null,\n  "b": 2\n}', b'{\n  "a": 1,\n  "b": null\n}'} <= hostile
    tables = {fuzz_text.change_csv(b"a,b\n1,2\n3,4\n", [], random.Random(n)) for n in range(200)}
    assert any(table.startswith(b"a,b\n") and table.count(b"\n") == 3 for table in tables)
    assert any(b"=1+1" in table for table in tables)


def test_one_of_several_files_is_changed():
    change = fuzz_readers.of_files(None, lambda content, seeds, rng: b"new", None)
    content = fuzz_readers.SEPARATOR.join((b"one", b"two", b"three"))
    assert change(content, [], random.Random(0)).split(fuzz_readers.SEPARATOR) == [b"one", b"new", b"three"]
