"""The loop over folds, with a trainer whose scores are given."""

import threading

import numpy as np
import pytest

from stages.library.heads.contract import Examples, Score, Step, Trainer
from stages.library.heads.cross_validation import cross_validate

FOLDS = np.array([0, 0, 0, 1, -1])


class Told(Trainer):
    """Has the held-out accuracies and losses of `params`: fold -> a pair for each candidate."""

    def path(self, fold):
        for index, pair in enumerate(self.params[fold]):
            rows = (self.examples.folds == fold).sum()
            logits = np.full((rows, 2), 10 * fold + index, np.float32)
            yield Step(-index, Score(1, 0), Score(*pair), logits)

    def fit(self, best_params):
        """Nothing is fitted."""


def told(params, kind=Told, candidates=3, workers=1):
    trainer = kind(Examples(np.zeros((5, 1)), np.zeros(5, np.int64), 2, FOLDS), params, 0)
    trainer.candidates = [{"penalty": index} for index in range(candidates)]
    trainer.workers = workers
    return cross_validate(trainer)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_lowest_loss_of_all_rows_is_chosen_and_its_logits_are_kept(workers):
    threads = set()

    class Noted(Told):
        """Notes in which threads it is."""

        def path(self, fold):
            threads.add(threading.current_thread())
            return super().path(fold)

    # By the mean of the folds the last one would be best, by the rows the second is.
    result = told({0: [(0, 3), (0, 1), (0, 2)], 1: [(0, 9), (0, 9), (0, 0)]}, Noted, workers=workers)
    assert result.best_params == {"penalty": 2}
    result = told({0: [(0, 3), (0, 1), (0, 2)], 1: [(0, 3), (0, 3), (0, 2)]}, Noted, workers=workers)
    assert result.best_params == {"penalty": 1}
    np.testing.assert_array_equal(result.logits[:, 0], [1, 1, 1, 11, np.nan])
    assert result.curve[:3] == [(0, "training", 1, 0), (0, "held-out", 0, 3), (-1, "training", 1, 0)]
    assert result.curve[3] == (-1, "held-out", 0, 2)
    assert (threading.main_thread() in threads) == (workers == 1)


def test_of_equal_candidates_the_one_of_the_largest_step_is_chosen():
    assert told({0: [(0, 2), (0, 1), (0, 1)], 1: [(0, 2), (0, 1), (0, 1)]}).best_params == {"penalty": 1}


def test_merit_decides():
    class Accurate(Told):
        """Prefers what is right."""

        def merit(self, out_of_fold):
            return out_of_fold.accuracy

    assert told({0: [(0.1, 1), (0.2, 2), (0.1, 0)]} | {1: [(0, 0)] * 3}, Accurate).best_params == {"penalty": 1}


def test_what_a_fold_did_not_reach_is_not_chosen():
    result = told({0: [(0, 3), (0, 2), (0, 1)], 1: [(0, 3), (0, 2)]})
    assert result.best_params == {"penalty": 1}
    assert [at for at, *_ in result.curve] == [0, 0, -1, -1]


def test_a_single_candidate_has_a_curve_and_the_logits_of_its_end():
    result = told({0: [(0, 1), (0, 2)], 1: [(0, 1), (0, 2)]}, candidates=1)
    assert result.best_params == {"penalty": 0}
    np.testing.assert_array_equal(result.logits[:, 0], [1, 1, 1, 11, np.nan])
    assert len(result.curve) == 4
