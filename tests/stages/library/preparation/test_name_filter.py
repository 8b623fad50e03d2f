"""Glob patterns that choose the part of a data set that is used."""

import pytest

from stages.library.common.console import UserError
from stages.library.common.params import ParamsError, parse
from stages.library.records import tfrecord
from stages.tfrecord import NameFilter

NAMES = ["data_batch_1/a.png", "data_batch_10/a.png", "test_batch/a.png", "cat/deep/x[1].jpg"]


@pytest.mark.parametrize(
    ("patterns", "taken"),
    [
        (["*"], NAMES),
        (["data_batch_1/*"], NAMES[:1]),
        (["data_batch_1*"], NAMES[:2]),
        (["data_batch_?/*", "test_batch/*"], [NAMES[0], NAMES[2]]),
        (["cat/*.jpg"], NAMES[3:]),
        (["*/x[[]1].jpg"], NAMES[3:]),
        (["*/a.png", "test*"], NAMES[:3]),
    ],
)
def test_an_image_is_taken_if_any_pattern_matches_its_whole_name(patterns, taken):
    name_filter = NameFilter(patterns)
    assert [name for name in NAMES if name_filter.takes(name)] == taken
    assert name_filter.skipped == len(NAMES) - len(taken)
    name_filter.check()


@pytest.mark.parametrize("pattern", ["DATA_BATCH_1/*", "data_batch_1", "batch_1/*"])
def test_a_pattern_that_matches_nothing_is_named(pattern):
    name_filter = NameFilter(["test_batch/*", pattern])
    for name in NAMES[:3]:
        name_filter.takes(name)
    with pytest.raises(UserError) as caught:
        name_filter.check()
    assert str(caught.value) == (
        "`tfrecord.include` must be patterns that each match an image's name, as in 'data_batch_1/a.png'. "
        f"Received: {pattern}"
    )


def test_no_pattern_is_an_error():
    with pytest.raises(ParamsError, match=r"^`tfrecord\.include`: .*at least 1 item.*Received: \[\]"):
        parse("tfrecord", {"shards": 1, "max_rejected": 0, "include": []}, tfrecord.Params)
