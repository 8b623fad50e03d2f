"""The loop over folds, with a trainer whose scores are given."""

import threading

import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from stages.library.heads.calibration import fit_temperature
from stages.library.heads.contract import Examples, Score, Step, Trainer
from stages.library.heads.cross_validation import cross_validate
from stages.library.scoring.selection import METRICS

FOLDS = np.array([0, 0, 0, 1, -1])


class Told(Trainer):
    """Has held-out losses for each fold, of each candidate, and logits, by default such that all are equally good."""

    def __init__(
        self, *losses, logits=None, candidates=3, workers=1, labels=(0, 0, 0, 0, 0), folds=FOLDS, weights=None
    ):
        weights = np.ones(len(labels)) if weights is None else weights
        examples = Examples(np.zeros((len(labels), 1)), np.array(labels), 2, folds, weights)
        super().__init__(examples, None, 0)
        self.candidates = [{"penalty": index} for index in range(candidates)]
        self.losses, self.given, self.workers, self.threads = losses, logits, workers, set()

    def path(self, fold):
        self.threads.add(threading.current_thread())
        rows = self.examples.folds == fold
        for index, loss in enumerate(self.losses[fold]):
            logits = np.full((rows.sum(), 2), 10 * fold + index, np.float32)
            yield Step(-index, Score(1, 0), Score(0, loss), logits if self.given is None else self.given[index][rows])

    def fit(self, best_params):
        """Nothing is fitted."""


def chosen(trainer, selected_by="top1_accuracy"):
    return cross_validate(trainer, selected_by).best_params["penalty"]


@pytest.mark.parametrize("workers", [1, 2])
def test_of_equals_the_lowest_loss_of_all_rows_is_chosen_and_its_logits_are_kept(workers):
    # By the mean of the folds the last one would be best, by the rows the second is.
    trainer = Told([3, 1, 2], [9, 9, 0], workers=workers)
    assert chosen(trainer) == 2
    assert (threading.main_thread() in trainer.threads) == (workers == 1)
    result = cross_validate(Told([3, 1, 2], [3, 3, 2], workers=workers), "top1_accuracy")
    assert result.best_params == {"penalty": 1}
    np.testing.assert_array_equal(result.logits[:, 0], [1, 1, 1, 11, np.nan])
    assert result.curve[:3] == [(0, "training", 1, 0), (0, "held-out", 0, 3), (-1, "training", 1, 0)]
    assert result.curve[3:4] == [(-1, "held-out", 0, 2)]
    # A single candidate has a curve, too, and the logits of its end.
    single = cross_validate(Told(*[[1, 2]] * 2, candidates=1, workers=workers), "top1_accuracy")
    np.testing.assert_array_equal(single.logits, result.logits)
    assert single.best_params == {"penalty": 0}
    assert len(single.curve) == 4
    # Rows count as they are weighted.
    assert chosen(Told([3, 1, 2], [3, 3, 2], weights=np.array([1, 1, 1, 9, 1.0]), workers=workers)) == 2


def test_of_equal_losses_the_largest_step_is_chosen():
    assert chosen(Told([2, 1, 1], [2, 1, 1])) == 1


def calibrated(labels, logits):
    temperature = fit_temperature(logits, labels, np.ones(len(labels)))
    return scipy.special.softmax(logits.astype(float) / temperature, axis=1)


@pytest.mark.parametrize("selected_by", METRICS)
def test_the_metric_of_the_out_of_fold_logits_decides_as_scikit_learn_has_it(selected_by):
    of, rng = sklearn.metrics, np.random.default_rng(0)
    reference = {
        "top1_accuracy": lambda labels, logits: of.accuracy_score(labels, logits.argmax(axis=1)),
        "balanced_accuracy": lambda labels, logits: of.balanced_accuracy_score(labels, logits.argmax(axis=1)),
        "macro_f1": lambda labels, logits: of.f1_score(labels, logits.argmax(axis=1), average="macro"),
        # After temperature scaling, so that no scale of the logits is preferred.
        "log_loss": lambda labels, logits: -of.log_loss(labels, calibrated(labels, logits)),
    }[selected_by]
    for _ in range(20):
        labels, folds = (rng.random(60) < 0.15).astype(int), np.arange(60) % 4 - 1
        logits = rng.normal(size=(3, 60, 2)) + 2 * rng.random((3, 1, 1)) * np.eye(2)[labels]
        logits = (logits * np.array([0.1, 1, 7])[:, None, None]).astype(np.float32)
        trainer = Told(*[[0, 0, 0]] * 3, logits=logits, labels=labels, folds=folds)
        scores = [reference(labels[folds >= 0], each[folds >= 0]) for each in logits]
        assert scores[chosen(trainer, selected_by)] == pytest.approx(max(scores), abs=1e-6)
