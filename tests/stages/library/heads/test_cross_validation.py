"""The loop over folds, with a trainer whose scores are given."""

import threading

import numpy as np
import pytest

from stages.library.heads.contract import Examples, Score, Step, Trainer
from stages.library.heads.cross_validation import cross_validate

FOLDS = np.array([0, 0, 0, 1, -1])


class Told(Trainer):
    """Has held-out accuracies and losses, a pair for each candidate and fold; may prefer the higher accuracy."""

    def __init__(self, *by_fold, candidates=3, workers=1, by_accuracy=False):
        super().__init__(Examples(np.zeros((5, 1)), np.zeros(5, np.int64), 2, FOLDS), None, 0)
        self.candidates = [{"penalty": index} for index in range(candidates)]
        self.by_fold, self.workers, self.by_accuracy, self.threads = by_fold, workers, by_accuracy, set()

    def path(self, fold):
        self.threads.add(threading.current_thread())
        for index, pair in enumerate(self.by_fold[fold]):
            logits = np.full(((fold == FOLDS).sum(), 2), 10 * fold + index, np.float32)
            yield Step(-index, Score(1, 0), Score(*pair), logits)

    def fit(self, best_params):
        """Nothing is fitted."""

    def merit(self, out_of_fold):
        return out_of_fold.accuracy if self.by_accuracy else super().merit(out_of_fold)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_lowest_loss_of_all_rows_is_chosen_and_its_logits_are_kept(workers):
    # By the mean of the folds the last one would be best, by the rows the second is.
    trainer = Told([(0, 3), (0, 1), (0, 2)], [(0, 9), (0, 9), (0, 0)], workers=workers)
    assert cross_validate(trainer).best_params == {"penalty": 2}
    assert (threading.main_thread() in trainer.threads) == (workers == 1)
    result = cross_validate(Told([(0, 3), (0, 1), (0, 2)], [(0, 3), (0, 3), (0, 2)], workers=workers))
    assert result.best_params == {"penalty": 1}
    np.testing.assert_array_equal(result.logits[:, 0], [1, 1, 1, 11, np.nan])
    assert result.curve[:3] == [(0, "training", 1, 0), (0, "held-out", 0, 3), (-1, "training", 1, 0)]
    assert result.curve[3:4] == [(-1, "held-out", 0, 2)]
    # A single candidate has a curve, too, and the logits of its end.
    single = cross_validate(Told(*[[(0, 1), (0, 2)]] * 2, candidates=1, workers=workers))
    np.testing.assert_array_equal(single.logits, result.logits)
    assert single.best_params == {"penalty": 0}
    assert len(single.curve) == 4


def test_merit_decides_then_the_largest_step_among_what_all_folds_reached():
    trainer = Told([(0.1, 1), (0.2, 2), (0.1, 0)], [(0, 0)] * 3, by_accuracy=True)
    for told in (trainer, Told(*[[(0, 2), (0, 1), (0, 1)]] * 2)):
        assert cross_validate(told).best_params == {"penalty": 1}
    result = cross_validate(Told([(0, 3), (0, 2), (0, 1)], [(0, 3), (0, 2)]))
    assert result.best_params == {"penalty": 1}
    assert [at for at, *_ in result.curve] == [0, 0, -1, -1]
