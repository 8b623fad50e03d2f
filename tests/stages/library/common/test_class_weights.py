import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from stages.library.common import class_weights
from stages.library.common.console import UserError

CLASSES = ("cat", "dog", "emu", "fox")


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.dictionaries(st.integers(0, 3), st.floats(0.01, 100)))
def test_they_are_scikit_learns_times_those_of_the_images(labels, given_weights):
    labels = np.array(labels)
    weights = np.linspace(0.5, 2, len(labels))
    given_weights = {label: weight for label, weight in given_weights.items() if label in labels}  # it knows no others
    by_name = {CLASSES[label]: weight for label, weight in given_weights.items()}
    for setting, reference in (("none", None), (by_name, given_weights)):
        found = class_weights.of_images(setting, labels, weights, CLASSES)
        np.testing.assert_allclose(found, weights * compute_sample_weight(reference, labels), rtol=1e-12)
        assert found.dtype == np.float64
    present = np.unique(labels)
    reference = compute_class_weight("balanced", classes=present, y=labels, sample_weight=weights)
    balanced = class_weights.of_images("balanced", labels, weights, CLASSES)
    np.testing.assert_allclose(balanced, weights * reference[np.searchsorted(present, labels)], rtol=1e-12)
    np.testing.assert_allclose(np.bincount(labels, balanced)[present], weights.sum() / len(present), rtol=1e-12)


def test_a_name_that_is_no_class_is_an_error_by_name():
    for setting in ("none", "balanced", {}, {"fox": 2.0, "cat": 1.0}):
        class_weights.check(setting, CLASSES)
    message = (
        r"^`class_weights` must name classes of the data set, \['cat', .*'fox'\]\. Received: \['7', 'Cat'\]\. Write"
    )
    with pytest.raises(UserError, match=message):
        class_weights.check({"cat": 1.0, "Cat": 2.0, "7": 1.0}, CLASSES)


@pytest.mark.parametrize("weight", [1e-200, 1e200])
def test_what_float32_cannot_hold_is_an_error(weight):
    with pytest.raises(UserError, match=r"must give weights in \[1e-30, 1e\+30\]\. Received: 1e[+-]200$"):
        class_weights.of_images({"cat": weight}, np.zeros(2, np.int64), np.array([1, weight]), CLASSES)
