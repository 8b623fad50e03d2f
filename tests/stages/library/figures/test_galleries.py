"""Images of images and pairs: what is where."""

import numpy as np
import pytest
from PIL import Image

from stages.library.figures import galleries
from stages.library.figures.galleries import Tile

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "cyan": (0, 255, 255)}


def tile(color, *lines):
    return Tile(np.broadcast_to(np.array(COLORS[color], np.uint8), (20, 30, 3)).copy(), lines)


def centres(path):
    with Image.open(path, formats=("PNG",)) as image:
        pixels = np.asarray(image.convert("RGB"))
    found = {}
    for name, color in COLORS.items():
        rows, columns = np.nonzero((pixels == color).all(axis=2))
        if len(rows):
            found[name] = (columns.mean(), rows.mean())
    return found


def test_a_pair_stands_side_by_side_and_the_next_beside_or_below_it(tmp_path):
    pairs = [[tile("red", "cat", "train"), tile("green", "cat", "test")], [tile("blue"), tile("cyan")]]
    galleries.write(tmp_path / "g.png", "pairs", pairs)
    found = centres(tmp_path / "g.png")
    assert set(found) == set(COLORS)
    xs = [found[name][0] for name in COLORS]
    assert xs == sorted(xs)
    assert np.ptp([y for _, y in found.values()]) < 2


def test_rows_follow_each_other_downwards(tmp_path):
    tiles = [[tile("red")], *([tile("green")] for _ in range(galleries.COLUMNS - 1)), [tile("blue")]]
    galleries.write(tmp_path / "g.png", "single", tiles)
    found = centres(tmp_path / "g.png")
    assert found["blue"][1] > found["red"][1] + 100
    assert found["blue"][0] == pytest.approx(found["red"][0], abs=2)


def test_nothing_to_show_is_a_title(tmp_path):
    galleries.write(tmp_path / "g.png", "none found", [])
    with Image.open(tmp_path / "g.png", formats=("PNG",)) as image:
        assert image.height < 100


def test_hostile_names_and_the_same_bytes_twice(tmp_path):
    tiles = [[tile("red", "$x$ \n\t" + "a" * 200, "猫\0", "\ud800")]]
    for name in ("a", "b"):
        galleries.write(tmp_path / f"{name}.png", "title", tiles)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
