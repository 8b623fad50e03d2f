"""Images of images: sizes, positions, order, any proportions, the same bytes twice."""

import io

import numpy as np
import pytest
from PIL import Image

from stages.library.figures import mosaics, thumbnails
from stages.library.figures.mosaics import Card
from stages.library.preparation import normalisation

RED, GREEN = np.array([255, 0, 0], np.uint8), np.array([0, 255, 0], np.uint8)


def plain(color, height=40, width=40):
    return np.broadcast_to(color, (height, width, 3)).copy()


def encoded(color, *size):
    return normalisation.normalise(plain(color, *size)).encoded


def read(path):
    with Image.open(path, formats=("PNG",)) as image:
        return np.asarray(image.convert("RGB"))


def test_each_class_has_its_row(tmp_path):
    mosaics.write_samples(tmp_path / "m.png", {"red": [encoded(RED)] * 10, "green": [encoded(GREEN)] * 3})
    pixels = read(tmp_path / "m.png")
    red, green = ((pixels == color).all(axis=2) for color in (RED, GREEN))
    side = mosaics.THUMBNAIL_SIZES_PX[0]
    assert red.sum() == 10 * side**2
    assert green.sum() == 3 * side**2
    assert np.flatnonzero(red.any(axis=1)).max() < np.flatnonzero(green.any(axis=1)).min()
    # Columns of images begin at the same place in every row.
    assert np.flatnonzero(red.any(axis=0)).min() == np.flatnonzero(green.any(axis=0)).min()


@pytest.mark.parametrize(("width", "height"), [(640, 480), (37, 1000), (90, 60)])
def test_thumbnails_of_jpeg_files_are_those_of_the_whole_image(width, height):
    rows, columns = np.mgrid[:height, :width]
    smooth = np.stack([255 * rows / height, 255 * columns / width, np.full(rows.shape, 90)], -1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(smooth).save(file, "JPEG", quality=95)
    small, expected = thumbnails.thumbnail(file.getvalue(), 72), thumbnails.fit(thumbnails.decode(file.getvalue()), 72)
    assert small.shape == expected.shape
    assert np.abs(small.astype(int) - expected).max() <= 4


def test_no_more_than_ten_images_of_a_class_are_taken(tmp_path):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield encoded(RED)

    mosaics.write_samples(tmp_path / "m.png", {"red": endless()})
    assert len(taken) == 10


@pytest.mark.parametrize("classes", [1, 2, 10, 16, 17, 102, 257, 1000])
def test_any_number_of_classes_fits_the_size_limit(classes):
    side, columns, rows = mosaics._layout(classes)
    width = mosaics.MARGIN_PX + columns * (mosaics.LABEL_PX + 10 * (side + mosaics.GAP_PX) + mosaics.MARGIN_PX)
    height = 2 * mosaics.MARGIN_PX + rows * (side + mosaics.GAP_PX) + 24
    assert max(width, height) <= mosaics.MAX_SIDE_PX
    assert columns * rows >= min(classes, 280)
    assert columns * rows - classes < rows  # no empty column


def test_102_classes_in_any_script_make_a_legible_size(tmp_path):
    names = [f"{script} {index}" for index in range(26) for script in ("кошка", "猫", "$cat$", "अ" * 60)][:102]
    mosaics.write_samples(tmp_path / "m.png", {name: [encoded(RED, 8, 8)] for name in names})
    pixels = read(tmp_path / "m.png")
    side = mosaics._layout(102)[0]
    assert side >= 40
    assert ((pixels == RED).all(axis=2)).sum() == 102 * side**2


def test_classes_beyond_the_limit_are_counted_not_drawn(tmp_path):
    mosaics.write_samples(tmp_path / "m.png", {f"{index:04d}": [encoded(RED, 4, 4)] for index in range(600)})
    side, columns, rows = mosaics._layout(600)
    assert ((read(tmp_path / "m.png") == RED).all(axis=2)).sum() == columns * rows * side**2


@pytest.mark.parametrize(("height", "width"), [(8, 8), (1, 500), (500, 1), (300, 200), (33, 47)])
def test_images_keep_their_proportions(height, width):
    fitted = thumbnails.fit(plain(RED, height, width), 48)
    assert max(fitted.shape[:2]) == 48
    assert fitted.shape[0] == pytest.approx(48 * height / max(height, width), abs=1)
    assert fitted.shape[1] == pytest.approx(48 * width / max(height, width), abs=1)
    assert (fitted == RED).all()


def test_small_images_show_their_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    np.testing.assert_array_equal(thumbnails.fit(pixels, 48), pixels.repeat(6, axis=0).repeat(6, axis=1))


CARDS = [
    Card(plain(RED), "猫 $x$", [("猫 $x$", 0.8), ("dog", 0.15), ("emu", 0.05)]),
    Card(plain(GREEN, 20, 60), "dog", [("emu", 0.5), ("dog", 0.5)]),
]


def has(pixels, hex_color):
    color = [int(hex_color[i : i + 2], 16) for i in (1, 3, 5)]
    return (pixels == color).all(axis=2).sum() > 100


def test_right_and_wrong_differ_in_colour(tmp_path):
    mosaics.write_predictions(tmp_path / "right.png", "title", CARDS[:1])
    mosaics.write_predictions(tmp_path / "wrong.png", "title", CARDS[1:])
    right, wrong = read(tmp_path / "right.png"), read(tmp_path / "wrong.png")
    assert has(right, "#0072B2")
    assert not has(right, "#D55E00")
    assert has(wrong, "#0072B2")
    assert has(wrong, "#D55E00")


def test_images_are_the_same_bytes_twice(tmp_path):
    for name in ("a.png", "b.png"):
        mosaics.write_predictions(tmp_path / name, "title", CARDS)
        mosaics.write_samples(tmp_path / f"samples_{name}", {"猫": [encoded(RED)], "dog": [encoded(GREEN)]})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "samples_a.png").read_bytes() == (tmp_path / "samples_b.png").read_bytes()
