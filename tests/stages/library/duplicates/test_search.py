"""Near-duplicates among generated photographs: each kind of copy is found, and nothing else is."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.library.common.artifacts import sha256_bytes
from stages.library.duplicates import candidates, search
from stages.library.duplicates.alignment import FARTHEST, WHOLE, align, compare
from stages.library.duplicates.miniatures import SIDE_PX, Miniatures, miniature, miniatures
from tests.photos import cut, encoded, photo

COPIES = {
    "resized": lambda image: encoded(image.resize((70, 50), Image.Resampling.LANCZOS)),
    "enlarged": lambda image: encoded(image.resize((400, 300), Image.Resampling.BICUBIC)),
    "recompressed": lambda image: encoded(image, "JPEG", quality=40),
    "grey": lambda image: encoded(image.convert("L")),
    "cut by a twentieth": lambda image: encoded(cut(image, 0.05, 0, 0, 0.05)),
    "cut by a tenth": lambda image: encoded(cut(image, 0, 0.1, 0.1, 0)),
    "mirrored": lambda image: encoded(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "JPEG", quality=80),
    "mirrored and cut": lambda image: encoded(cut(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 0.05, 0, 0, 0.05)),
}
PHOTOS = [photo(seed) for seed in range(60)]


def found(contents):
    keys = np.array([sha256_bytes(content) for content in contents])
    return search.near_duplicates(keys, miniatures(contents))


@pytest.mark.parametrize("kind", COPIES)
def test_every_copy_is_found_and_nothing_else(kind):
    pairs, distances = found([*map(encoded, PHOTOS), *map(COPIES[kind], PHOTOS[:10])])
    assert sorted(pairs.tolist()) == [[row, row + len(PHOTOS)] for row in range(10)]
    assert (np.diff(distances) >= 0).all()
    assert 0 <= distances[0] <= distances[-1] <= search.MOST_RESIDUAL / 255


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (160, 120)])
def test_distinct_images_are_no_copies(size):
    pairs, distances = found([encoded(photo(seed, size)) for seed in range(60)])
    assert (pairs.shape, distances.shape) == ((0, 2), (0,))


@pytest.mark.parametrize("larger", ["first", "copy"])
def test_copies_are_found_whichever_ends_are_cut_and_mirrored_too(larger):
    """A wrong start would leave the images further apart than alignment can reach."""
    ends = (0, 0), (0, 0.1), (0.1, 0), (0.05, 0.05), (0.03, 0.07)
    photos = [photo(seed, (96, 96)) for seed in range(2 * len(ends) ** 2)]
    copies = [
        cut(image, left, top, right, bottom)
        for image, ((left, right), (top, bottom), _) in zip(photos, product(ends, ends, range(2)), strict=True)
    ]
    copies[1::2] = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in copies[1::2]]
    if larger == "copy":
        photos = [image.resize((30, 28), Image.Resampling.LANCZOS) for image in photos]
    pairs, distances = found([*map(encoded, photos), *map(encoded, copies)])
    assert sorted(pairs.tolist()) == [[row, row + len(photos)] for row in range(len(photos))]
    assert distances.max() < 5 / 255


def test_images_of_one_colour_are_like_none():
    shades = [encoded(Image.new("L", (32, 32), shade)) for shade in range(100)]
    assert found(shades)[0].tolist() == []
    assert found([*shades, encoded(PHOTOS[0]), COPIES["grey"](PHOTOS[0])])[0].tolist() == [[100, 101]]


@pytest.mark.parametrize(("sides", "said"), [([15, 16, 40], "1 images"), ([16, 40], "")])
def test_images_too_small_to_be_compared_are_counted(sides, said, capsys):
    contents = [encoded(photo(seed, (side, 40))) for seed, side in enumerate(sides)]
    search.find("stage", [sha256_bytes(content) for content in contents], iter(contents))
    line = f"stage: {said} have a side below 16 px: most copies of those are not found\n" if said else ""
    assert capsys.readouterr().out == line


def test_an_edited_part_makes_another_image():
    edited = PHOTOS[0].copy()
    edited.paste("black", (20, 20, 70, 70))
    assert found(list(map(encoded, [*PHOTOS, edited])))[0].tolist() == []


def test_copies_byte_for_byte_are_pairs_whatever_they_show():
    plain = [encoded(Image.new("RGB", (40, 40), colour)) for colour in ("white", "white", "black")]
    pairs, distances = found(
        [encoded(PHOTOS[0]), *plain, encoded(PHOTOS[0]), encoded(PHOTOS[0]), COPIES["grey"](PHOTOS[0])]
    )
    assert pairs.tolist() == [[0, 4], [0, 5], [1, 2], [0, 6]]
    assert distances[:3].tolist() == [0, 0, 0]


@pytest.mark.parametrize("count", [0, 1])
def test_few_images_have_no_pairs(count):
    assert found(list(map(encoded, PHOTOS[:count])))[0].shape == (0, 2)


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(12)))
def test_the_order_of_images_does_not_matter(order):
    contents = [
        *map(encoded, PHOTOS[:8]),
        *(make(image) for make, image in zip(list(COPIES.values())[::2], PHOTOS[:4], strict=True)),
    ]
    expected, distances = found(contents)
    pairs, shuffled = found([contents[row] for row in order])
    assert len(expected) == 4
    assert sorted(map(sorted, np.array(order)[pairs].tolist())) == sorted(expected.tolist())
    np.testing.assert_allclose(np.sort(shuffled), np.sort(distances), atol=1e-5)


def test_copies_are_found_across_lists_and_parts(monkeypatch):
    contents = [*map(encoded, PHOTOS), *map(COPIES["cut by a twentieth"], PHOTOS)]
    expected = found(contents)[0].tolist()
    monkeypatch.setattr(candidates, "LIST_LENGTH", 16)
    monkeypatch.setattr(candidates, "ROWS", 50)
    monkeypatch.setattr(candidates, "SCORES", 100)
    assert found(contents)[0].tolist() == expected
    assert len(expected) == len(PHOTOS)


def test_a_burst_hangs_together_though_an_image_has_few_candidates():
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    burst = [encoded(PHOTOS[0], "JPEG", quality=quality) for quality in range(60, 90)]
    pairs, _ = found([*burst, *map(encoded, PHOTOS[1:20])])
    graph = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(49, 49))
    assert np.bincount(connected_components(graph)[1]).max() == 30
    assert pairs.max() == 29


def test_alignment_finds_what_was_cut():
    moved = miniatures([encoded(PHOTOS[1])])
    still = miniatures([encoded(cut(PHOTOS[1], 0.05, 0.1, 0.05, 0))])
    frame = align(moved, still, (SIDE_PX, SIDE_PX), WHOLE[None])[0]
    np.testing.assert_allclose(frame, [0.05, 0.9, 0, 0.9], atol=0.01)
    residual, detail = compare(moved, still, (SIDE_PX, SIDE_PX), WHOLE[None])
    assert (residual[0] < 3, detail[0] > 0.97) == (True, True)
    other = miniatures([encoded(PHOTOS[2])])
    frame = align(moved, other, (SIDE_PX, SIDE_PX), WHOLE[None])[0]
    assert (np.abs(frame - WHOLE) <= FARTHEST + 1e-6).all()
    assert compare(moved, other, (SIDE_PX, SIDE_PX), WHOLE[None])[0][0] > 10


def test_miniatures_by_hand():
    small = np.arange(12, dtype=np.uint8).reshape(3, 4)
    stacked = miniatures([encoded(Image.fromarray(small)), encoded(Image.new("L", (200, 20), 7))])
    assert stacked.sizes.tolist() == [[3, 4], [20, SIDE_PX]]
    np.testing.assert_array_equal(stacked.pixels[0, :3, :4], small)
    assert stacked.pixels[0].sum() == small.sum()
    np.testing.assert_array_equal(miniature(encoded(Image.new("L", (200, 20), 7))), np.full((20, SIDE_PX), 7))
    mirrored = stacked.mirrored(np.array([True, False]))
    np.testing.assert_array_equal(mirrored.pixels[0, :3, :4], small[:, ::-1])
    np.testing.assert_array_equal(mirrored.pixels[1], stacked.pixels[1])
    again = mirrored.mirrored(np.array([True, False]))
    np.testing.assert_array_equal(again.pixels, stacked.pixels)


def test_the_measure_is_symmetric():
    pictures = [
        PHOTOS[0],
        PHOTOS[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        PHOTOS[1],
        cut(PHOTOS[1], 0.1, 0, 0, 0),
    ]
    for first, second in combinations(map(encoded, pictures), 2):
        forth, back = found([first, second]), found([second, first])
        assert [part.tolist() for part in forth] == [part.tolist() for part in back]


def test_an_empty_stack_has_the_shapes_of_any_other():
    empty = miniatures([])
    assert isinstance(empty, Miniatures)
    assert (empty.pixels.shape, empty.sizes.shape) == ((0, SIDE_PX, SIDE_PX), (0, 2))
