"""Results of threads, in order."""

import threading
import time
from typing import Any

import pytest

from stages.library.common.threads import ahead


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order_and_few_items_are_taken_before_their_results_are_used(workers):
    taken: list[int] = []

    def slow_if_even(number):
        time.sleep(0.01 * (number % 2 == 0))
        return 10 * number

    def items():
        for number in range(20):
            taken.append(number)
            yield number

    results: Any = ahead(slow_if_even, items(), workers)
    assert taken == []
    for done in range(1, 21):
        assert next(results) == 10 * (done - 1)
        assert len(taken) - done <= 2 * workers
    assert list(results) == list(ahead(slow_if_even, [], workers)) == []


def test_as_many_run_at_once_as_there_are_workers():
    met = threading.Barrier(3)  # each waits for the two others
    assert list(ahead(lambda number: met.wait(10) >= 0 and number, range(6), 3)) == list(range(6))


def test_an_error_ends_it_at_its_place():
    results = ahead(lambda number: 6 // number, [1, 2, 0, 3], 2)
    found: list[int] = []
    with pytest.raises(ZeroDivisionError):
        found.extend(results)
    assert [*found, *results] == [6, 3]
