"""Learning curves of cross-validation."""

from collections.abc import Sequence

import numpy as np

from stages.library.heads.contract import CurvePoint


def average(curves: Sequence[Sequence[CurvePoint]]) -> list[CurvePoint]:
    """Averages the folds' curves, which have the same steps and series in the same order."""
    return [
        CurvePoint(
            points[0].step,
            points[0].series,
            float(np.mean([point.accuracy for point in points])),
            float(np.mean([point.loss for point in points])),
        )
        for points in zip(*curves, strict=True)
    ]
