"""XGBoost on two Ray workers of this machine, against one process."""

from dataclasses import replace
from pathlib import Path

import contents
import numpy as np
import pytest

from stages.library import params
from stages.library.console import UserError
from stages.library.heads import xgboost

ROOT = Path(__file__).parents[1]
PARAMS = replace(params.load(ROOT / "params.yaml")["xgboost"], num_trees=6, max_depth=3, colsample_bytree=1.0)


@pytest.fixture(scope="module")
def cluster():
    import ray

    environment = {"env_vars": {"PYTHONPATH": str(ROOT)}}
    ray.init(num_cpus=2, runtime_env=environment, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()


def problem(n=601):
    """Features of eight values each, so that quantiles are those values however rows are shared out."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, n)
    features = rng.integers(0, 6, (n, 12)) + 2 * np.eye(12, dtype=int)[labels]
    return features.astype(np.float16), labels


@pytest.mark.slow
def test_two_workers_grow_the_trees_of_one_process(cluster, tmp_path):
    features, labels = problem()
    folds = np.arange(len(labels)) % 2
    alone = xgboost.cross_validate(features, labels, 3, folds, PARAMS, 0)
    together = xgboost.cross_validate(features, labels, 3, folds, replace(PARAMS, workers=2), 0)
    np.testing.assert_allclose(together.logits, alone.logits, atol=1e-4)
    assert [(p.step, p.series) for p in together.curve] == [(p.step, p.series) for p in alone.curve]
    np.testing.assert_allclose([p.loss for p in together.curve], [p.loss for p in alone.curve], rtol=1e-4)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        xgboost.fit(features, labels, 3, replace(PARAMS, workers=2), 0, {}).save(tmp_path / name)
    assert contents.of(tmp_path / "first") == contents.of(tmp_path / "second")


@pytest.mark.slow
def test_more_workers_than_cpus_are_refused(cluster):
    features, labels = problem()
    with pytest.raises(UserError, match=r"`xgboost.workers` must be at most the 2 CPUs .*Received: 3"):
        xgboost.fit(features, labels, 3, replace(PARAMS, workers=3), 0, {})


@pytest.mark.slow
def test_what_fails_in_a_worker_is_one_line(cluster):
    features, labels = problem()
    with pytest.raises(UserError, match=r"an XGBoost worker failed on Ray \(.*\)$"):
        xgboost.fit(features, labels + 5, 3, replace(PARAMS, workers=2), 0, {})
