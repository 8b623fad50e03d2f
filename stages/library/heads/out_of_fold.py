"""What a model predicts of images that it did not see, as it is written: scores, and the predictions themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.library.common import artifacts
from stages.library.heads import calibration
from stages.library.heads.folds import NEVER
from stages.library.records import leakage
from stages.library.scoring import metrics, selection
from stages.library.scoring.probabilities import softmax


@dataclass(frozen=True)
class OutOfFold:
    """Predictions of cross-validation, calibrated, and what they are worth."""

    keys: np.ndarray  # sha256 hex of each image, object (n,)
    labels: np.ndarray  # int64 (n,)
    logits: np.ndarray  # float32 (n, num_classes), NaN in rows that every model saw
    temperature: float  # by which the logits were divided
    # Metric -> mean and sample standard deviation over the folds (one fold has none); expected_calibration_error ->
    # "before" and "after" calibration.
    scores: Mapping[str, Mapping[str, float]]
    scores_by_fold: list[dict[str, float]]  # metric -> its value, of each fold

    @property
    def shown(self) -> str:
        """The accuracy as people read it."""
        accuracy = self.scores["top1_accuracy"]
        seen = np.isfinite(self.logits[:, 0]).sum()
        return f"{accuracy['mean']:.4f} " + (
            f"± {accuracy['std']:.4f}" if "std" in accuracy else f"on the {seen:,} held out"
        )

    def save(self, folder: Path) -> None:
        """Writes cross_validation.json and out_of_fold.parquet into an existing folder."""
        artifacts.write_json(folder / "cross_validation.json", self.scores)
        columns = {
            "key": pa.array(self.keys, pa.string()),
            "label": pa.array(self.labels, pa.int32()),
            "logits": pa.FixedSizeListArray.from_arrays(pa.array(self.logits.reshape(-1)), self.logits.shape[1]),
        }
        pq.write_table(pa.table(columns), folder / leakage.OF_HEAD, compression="zstd")


def calibrated(
    keys: np.ndarray, labels: np.ndarray, weights: np.ndarray, logits: np.ndarray, folds: np.ndarray, scales: bool
) -> OutOfFold:
    """Calibrates logits, float32 (n, num_classes), by one temperature where it `scales`, and scores each fold.

    `weights`, float64 (n,), are of the losses by which the temperature is found; `folds` are int64 (n,), NEVER in rows
    without logits.
    """
    seen = folds != NEVER
    raw, known = logits[seen], labels[seen]
    temperature = calibration.fit_temperature(raw, known, weights[seen]) if scales else 1.0
    divided = logits / np.float32(temperature)
    by_fold = [folds == fold for fold in range(folds.max() + 1)]
    measured = [selection.measure(divided[rows], labels[rows]) for rows in by_fold]
    scores: dict[str, Mapping[str, float]] = {
        metric: _moments([each[metric] for each in measured]) for metric in selection.METRICS
    }
    scores["expected_calibration_error"] = {
        when: metrics.expected_calibration_error(softmax(each), known)
        for when, each in (("before", raw), ("after", divided[seen]))
    }
    return OutOfFold(keys, labels, divided, temperature, scores, measured)


def _moments(values: list[float]) -> dict[str, float]:
    deviation = {"std": float(np.std(values, ddof=1))} if len(values) > 1 else {}
    return {"mean": float(np.mean(values))} | deviation
