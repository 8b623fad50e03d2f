"""Images of accuracy against cost: which models stand on the frontier, and that any number of them can be drawn."""

import numpy as np
import pytest

from stages.library.figures import pareto, thumbnails
from stages.library.figures.pareto import Point


def point(name, accuracy, cost, **more):
    return Point(name, accuracy, cost, f"{cost} MB", **more)


def test_the_frontier_by_hand():
    dear_and_best, cheap, beaten = point("a", 0.9, 10), point("b", 0.8, 1), point("c", 0.7, 5)
    equal_but_dearer = point("d", 0.8, 2)
    assert pareto.frontier([dear_and_best, beaten, cheap, equal_but_dearer]) == [cheap, dear_and_best]
    assert pareto.frontier([beaten]) == [beaten]
    same = [point(name, 1.0, 18.6) for name in "abc"]
    assert pareto.frontier(same) == same[:1]
    assert pareto.draw(same, "megabytes", "title").startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 40])
def test_any_number_of_models_can_be_drawn(count):
    points = [point(f"backbone/{'x' * 60}{n}$", 0.4 + n / 100, 1 + n, interval=(0.4, 0.9)) for n in range(count)]
    first = pareto.draw(points, "megabytes", "title")
    assert thumbnails.decode(first).std() > 5
    assert pareto.draw(points, "megabytes", "title") == first


def test_names_stand_near_their_points_and_apart():
    assert pareto.dodged([0.2, 0.5, 0.9]) == [0.2, 0.5, 0.9]
    for wanted in ([1.0] * 5, [0.0] * 5, [0.4, 0.41, 0.42, 0.99, 1.0], [0.5] * 40, [0.3]):
        heights = pareto.dodged(wanted)
        gap = min(0.075, 1 / max(len(wanted) - 1, 1))
        assert np.diff(heights).min(initial=1) >= gap - 1e-9
        assert 0 <= min(heights) <= max(heights) <= 1
