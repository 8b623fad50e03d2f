"""app.tuning: what is tried of a key."""

import pytest

from app import tuning
from stages.library.common.console import UserError
from stages.library.heads.search_space import Choice, Range


def test_a_distribution_has_the_present_value_too():
    assert tuning.distribution("a.b", Range(0.1, 1.0, log=True), 0.01).low == 0.01
    assert tuning.distribution("a.b", Range(1, 5), 9).high == 9
    drawn = tuning.distribution("a.b", Choice(((512,), (64, 8))), [3])
    assert drawn.choices == ("[512]", "[64, 8]", "[3]")
    for part, present, rule in (
        (Range(0.1, 1.0, log=True), 0.0, "a number above 0"),
        (Range(0.1, 1.0), None, "a number"),
        (Range(0.1, 1.0), True, "a number"),
    ):
        with pytest.raises(UserError, match=rf"^`a.b` must be {rule} where the search begins. Received: {present}$"):
            tuning.distribution("a.b", part, present)
