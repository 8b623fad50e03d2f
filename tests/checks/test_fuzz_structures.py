"""What the fuzzer knows of files: its changes leave their structure right, so that most get past the first check."""

import io
import json
import random
import re
import warnings
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, IptcImagePlugin
from ruamel.yaml import YAML

from checks import fuzz_documents, fuzz_images, fuzz_mutations
from checks.fuzz_structures import boxes, chunks, containers, icons, images, jpeg, jpeg2000, json_text, tiff, yaml_text
from checks.fuzz_structures.parts import Part
from stages.library.preparation import normalisation

SEEDS = fuzz_images.seeds(Path())
RUNS = {"jpeg": jpeg.STRUCTURE, "webp": chunks.WEBP_STRUCTURE, "gif": icons.GIF, "j2k": jpeg2000.STRUCTURE}
RUNS |= {"png": chunks.PNG_STRUCTURE, "boxes": boxes.STRUCTURE}
FORMATS = "JPEG", "PNG", "WEBP", "GIF", "TIFF", "JPEG2000", "AVIF", "ICO", "BMP", "TGA", "PPM"
ANY_SEED = st.integers(0, 10**9)


def of_kind(name):
    return [content for content in SEEDS if images.kind(content) == name]


def recognised(content):
    """Whether Pillow takes a file's head for that of an image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
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
    assert {images.kind(content) for content in SEEDS} >= set(images.STRUCTURES)


@pytest.mark.parametrize("name", RUNS)
def test_a_file_is_the_sum_of_its_parts(name):
    found = {content: RUNS[name].split(content) for content in of_kind(name)}
    assert max(map(len, found.values())) > 2
    for content, parts in found.items():
        assert RUNS[name].join(parts) == content


@pytest.mark.parametrize("name", images.STRUCTURES)
def test_a_third_of_the_changed_files_get_past_the_first_check(name):
    seeds = of_kind(name)
    changed = [
        images.STRUCTURES[name].change(random.Random(n).choice(seeds), seeds, random.Random(n)) for n in range(150)
    ]
    assert len(set(changed)) > 30
    assert sum(map(recognised, changed)) >= 50


@given(ANY_SEED)
@settings(max_examples=60)
def test_the_checksums_of_a_changed_png_are_right(seed):
    rng = random.Random(seed)
    content = chunks.png(16)
    for _ in range(rng.randint(1, 4)):
        content = chunks.PNG_STRUCTURE.change(content, [content], rng)
    at, seen = len(chunks.PNG), 0
    while at + 12 <= len(content) and (length := int.from_bytes(content[at : at + 4], "big")) <= len(content) - at - 12:
        end = at + 8 + length
        if not content[at + 4 : at + 8].isalpha():  # what was put after the end
            break
        assert zlib.crc32(content[at + 4 : end]) == int.from_bytes(content[end : end + 4], "big")
        at, seen = end + 4, seen + 1
    assert seen or len(chunks.PNG_STRUCTURE.split(content)) <= 3


@given(ANY_SEED)
@settings(max_examples=150)
def test_any_seed_gives_a_variant_of_bounded_size(seed):
    rng = random.Random(seed)
    content = fuzz_mutations.variant(SEEDS, rng, images.change)
    assert len(content) <= fuzz_mutations.LARGEST_BYTES
    assert fuzz_mutations.variant(SEEDS, random.Random(seed), images.change) == content


@given(ANY_SEED, st.sampled_from("<>"))
@settings(max_examples=60)
def test_a_changed_tiff_has_a_directory_in_its_own_order(seed, form):
    content = tiff.pixels(form, bytes(256), 16)
    changed = tiff.change(content, [content], random.Random(seed))
    assert tiff.order(changed) == form
    numbers = [tag.number for tag in tiff.read(changed)]
    assert numbers
    assert numbers == sorted(numbers)
    assert changed[8 : len(content)] == content[8:]  # offsets into it are still right


def test_files_within_files_are_whole():
    inner = chunks.png(16)
    assert inner in containers.icns(inner)
    with Image.open(io.BytesIO(icons.ico([inner])), formats=["ICO"]) as image:
        assert (image.format, image.size) == ("ICO", (16, 16))
    with Image.open(
        io.BytesIO(containers.mpo(images.written("JPEG"), [images.written("JPEG")])), formats=normalisation.FORMATS
    ) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    photo = jpeg.with_metadata(images.written("JPEG"), b"\xff\xe1", b"Exif\0\0" + containers.exif(inner), 1)
    assert inner in photo
    with Image.open(io.BytesIO(photo), formats=normalisation.FORMATS) as image:
        assert image.getexif()[0x0112] == 6
    with IptcImagePlugin.IptcImageFile(io.BytesIO(containers.iptc(inner))) as image:
        assert image.size == (16, 16)


@pytest.mark.parametrize("name", images.hostile())
def test_hostile_images_are_small(name):
    content = images.hostile()[name]()
    assert 50 < len(content) < 11_000_000


def test_scans_and_precincts_are_what_decoders_take_them_for():
    content = jpeg.progressive(64, 30)
    assert [part.kind for part in jpeg.split(content)].count(jpeg.SCAN) == 31
    with Image.open(io.BytesIO(content), formats=normalisation.FORMATS) as image:
        image.load()
        assert image.size == (64, 64)
    code = jpeg2000.large(images.written("JPEG2000", side=64, no_jp2=True), 64, 64, precincts=0x11)
    with Image.open(io.BytesIO(code), formats=normalisation.FORMATS) as image:
        image.load()


def test_aliases_stand_for_as_many_items_as_they_say():
    found = YAML(typ="safe", pure=True).load(yaml_text.aliases(3, 3))["level_2"]
    assert sum(len(inner) for middle in found for inner in middle) == 27


def test_yaml_documents_are_changed_in_ways_that_parsers_take_and_that_they_reject():
    taken = 0
    for number in range(300):
        content = yaml_text.change(b"a: [1, 2]\nb: {c: 1}\nd: x\n", [], random.Random(number))
        if len(content) > 5000:
            continue
        try:
            YAML(typ="safe", pure=True).load(content)
            taken += 1
        except Exception:  # noqa: BLE001 - and a parser of YAML, too
            pass
    assert 60 < taken < 280


@given(ANY_SEED)
@settings(max_examples=60)
def test_json_values_are_replaced_at_one_place(seed):
    document = {"a": [1, {"b": None}], "c": "x"}
    path = random.Random(seed).choice(json_text._places(document))
    found = json.loads(json_text.replaced(document, path, '"new"'))
    for key in path:
        found = found[key]
    assert found == "new"


def test_json_keys_come_twice_and_csv_cells_are_changed():
    texts = [json_text.change(b'{"a": 1, "b": 2}', [], random.Random(n)).decode(errors="replace") for n in range(300)]
    assert any(len(re.findall(r'"a":', text)) == 2 for text in texts)
    assert any("NaN" in text for text in texts)
    tables = {json_text.change_csv(b"a,b\n1,2\n3,4\n", [], random.Random(n)) for n in range(200)}
    assert any(table.startswith(b"a,b\n") and table.count(b"\n") == 3 for table in tables)
    assert any(b"=1+1" in table for table in tables)


def test_one_of_several_files_is_changed():
    change = fuzz_documents.of_files(None, lambda content, seeds, rng: b"new", None)
    content = fuzz_documents.SEPARATOR.join((b"one", b"two", b"three"))
    assert change(content, [], random.Random(0)).split(fuzz_documents.SEPARATOR) == [b"one", b"new", b"three"]


def test_a_part_is_put_after_the_head_of_a_png():
    changed = chunks.with_chunk(chunks.png(16), Part(b"tEXt", b"a\0b"), 3)
    assert [part.kind for part in chunks.split_png(changed)] == [b"IHDR", b"tEXt", b"tEXt", b"tEXt", b"IDAT", b"IEND"]
