"""Images of images: sizes, positions, order, any proportions, the same bytes twice."""

import io

import contents
import numpy as np
import pytest
from PIL import Image

from stages.library.figures import charts, mosaics, thumbnails
from stages.library.figures.mosaics import Card, Tile
from stages.library.preparation import normalisation

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "cyan": (0, 255, 255)}


def plain(color, height=40, width=40):
    return np.full((height, width, 3), COLORS[color], np.uint8)


def encoded(color, *size):
    return normalisation.normalise(plain(color, *size)).encoded


def found(path):
    """Returns where each of the colours stands in a PNG, (n, 2)."""
    pixels = thumbnails.decode(path.read_bytes())
    return {name: np.argwhere((pixels == color).all(axis=2)) for name, color in COLORS.items()}


def test_each_class_has_its_row_of_ten_at_most(tmp_path):
    images = iter([encoded("red")] * 99)
    mosaics.write_samples(tmp_path / "m.png", {"red": images, "green": [encoded("green")] * 3})
    assert len(list(images)) == 89  # no more are taken
    red, green = (found(tmp_path / "m.png")[name] for name in ("red", "green"))
    side = mosaics.THUMBNAIL_SIZES_PX[0]
    assert (len(red), len(green)) == (10 * side**2, 3 * side**2)
    assert red[:, 0].max() < green[:, 0].min()
    assert red[:, 1].min() == green[:, 1].min()  # columns of images begin at the same place in every row


def test_of_many_classes_fewer_images_are_drawn_and_taken(tmp_path):
    for classes, most in ((40, 10), (41, 9), (50, 8), (102, 4)):
        images = [iter([encoded("red", 8, 8)] * 11) for _ in range(classes)]
        mosaics.write_samples(tmp_path / "m.png", {f"{index}": row for index, row in enumerate(images)})
        assert [len(list(row)) for row in images] == [11 - most] * classes


@pytest.mark.parametrize(("width", "height"), [(640, 480), (37, 1000), (90, 60)])
def test_thumbnails_of_jpeg_files_are_those_of_the_whole_image(width, height):
    rows, columns = np.mgrid[:height, :width]
    smooth = np.stack([255 * rows / height, 255 * columns / width, np.full(rows.shape, 90)], -1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(smooth).save(file, "JPEG", quality=95)
    small, expected = thumbnails.thumbnail(file.getvalue(), 72), thumbnails.fit(thumbnails.decode(file.getvalue()), 72)
    assert small.shape == expected.shape
    assert np.abs(small.astype(int) - expected).max() <= 4


@pytest.mark.parametrize("classes", [1, 2, 10, 16, 17, 102, 257, 1000])  # of the last, as many are drawn as fit
def test_any_number_of_classes_in_any_script_fits_the_size_limit(tmp_path, classes):
    scripts = "кошка", "猫", "$cat$", "अ" * 60
    names = [f"{scripts[index % 4]} {index}" for index in range(classes)]
    mosaics.write_samples(tmp_path / "m.png", {name: [encoded("red", 8, 8)] for name in names})
    side, columns, rows = mosaics._layout(classes)
    pixels = thumbnails.decode((tmp_path / "m.png").read_bytes())
    assert (pixels == COLORS["red"]).all(axis=2).sum() == min(classes, columns * rows) * side**2
    assert max(pixels.shape) <= mosaics.MAX_SIDE_PX
    assert columns * rows >= min(classes, 280)
    assert columns * rows - classes < rows  # no empty column
    assert side >= 40 or classes > 102


@pytest.mark.parametrize(("height", "width"), [(8, 8), (1, 500), (500, 1), (300, 200), (33, 47)])
def test_images_keep_their_proportions(height, width):
    fitted = thumbnails.fit(plain("red", height, width), 48)
    assert max(fitted.shape[:2]) == 48
    np.testing.assert_allclose(fitted.shape[:2], 48 * np.array([height, width]) / max(height, width), atol=1)
    assert (fitted == COLORS["red"]).all()
    # Small images show their pixels.
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    np.testing.assert_array_equal(thumbnails.fit(pixels, 48), pixels.repeat(6, axis=0).repeat(6, axis=1))


CARDS = [
    Card(plain("red"), "猫 $x$", [("猫 $x$", 0.8), ("dog", 0.15), ("emu", 0.05)]),
    Card(plain("green", 20, 60), "dog", [("emu", 0.5), ("dog", 0.5)]),
]


def test_right_and_wrong_differ_in_colour(tmp_path):
    for card, colors in zip(CARDS, ([True, False], [True, True]), strict=True):
        mosaics.write_predictions(tmp_path / "card.png", "title", [card])
        pixels = thumbnails.decode((tmp_path / "card.png").read_bytes())
        counts = [(pixels == color).all(axis=2).sum() for color in ((0, 0x72, 0xB2), (0xD5, 0x5E, 0))]
        assert [count > 100 for count in counts] == colors


def texts_of(card, wrong="taken for"):
    """What stands in a card, and how heavy."""
    with charts.drawing(4, 2, layout=None) as figure:
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 4), ylim=(2, 0))
        mosaics._draw_card(axes, card, 0, 0, wrong)
        found = {text.get_text(): text.get_fontweight() for text in axes.texts}
        charts.png(figure)
        return found


def test_a_card_says_what_was_taken_for_what_the_file_and_only_the_true_class_in_bold():
    nine = Card(plain("red"), "9", [("5", 0.99996), ("9", 0.00004), ("2", 0.0)], "test/9/0001.png")
    texts = texts_of(nine)
    assert {"9", ", taken for 5", "test/9/0001.png", ">99.9%", "<0.1%", "0.0%"} <= set(texts)
    assert [text for text, weight in texts.items() if weight == "bold"] == ["9"]
    assert "likely 5" in str(list(texts_of(nine, "likely")))
    right = texts_of(CARDS[0])
    assert [text for text, weight in right.items() if weight == "bold"] == ["✓ 猫 $x$", "猫 $x$"]
    long = texts_of(Card(plain("red"), "golden retriever", [("Labrador retriever", 0.9)], "a/" + "b" * 99))
    assert {"golden retriever", "taken for Labrado…triever"} <= set(long)  # on a line of its own
    assert max(map(len, long)) <= mosaics.FILE_CHARACTERS


def tile(color, *lines):
    return Tile(plain(color, 20, 30), lines)


def centres(path):
    return {name: places.mean(axis=0) for name, places in found(path).items() if len(places)}


def test_a_pair_stands_side_by_side_and_the_next_beside_or_below_it(tmp_path):
    pairs = [[tile("red", "cat", "train"), tile("green", "cat", "test")], [tile("blue"), tile("cyan")]]
    mosaics.write_gallery(tmp_path / "g.png", "pairs", pairs)
    places = centres(tmp_path / "g.png")
    rows, columns = np.transpose([places[name] for name in COLORS])
    assert (np.diff(columns) > 0).all()
    assert np.ptp(rows) < 2
    tiles = [[tile("red")], *([tile("green")] for _ in range(mosaics.TILE_COLUMNS - 1)), [tile("blue")]]
    mosaics.write_gallery(tmp_path / "g.png", "single", tiles)
    places = centres(tmp_path / "g.png")
    assert places["blue"][0] > places["red"][0] + 100
    assert places["blue"][1] == pytest.approx(places["red"][1], abs=2)
    mosaics.write_gallery(tmp_path / "g.png", "none found", [])
    assert len(thumbnails.decode((tmp_path / "g.png").read_bytes())) < 100  # px: nothing but the title


def test_images_with_hostile_names_are_the_same_bytes_twice(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        mosaics.write_predictions(tmp_path / name / "cards", "title", CARDS)
        mosaics.write_samples(tmp_path / name / "samples", {"猫": [encoded("red")], "dog": [encoded("green")]})
        tiles = [[tile("red", "$x$ \n\t" + "a" * 200, "猫\0", "\ud800")]]
        mosaics.write_gallery(tmp_path / name / "gallery", "title", tiles)
    assert contents.of(tmp_path / "a") == contents.of(tmp_path / "b")
