"""A backbone and a head as one classifier: pixels in, probabilities out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.library import bottlenecks, trained_head, weights
from stages.library.console import UserError
from stages.library.runtimes import TAPPED, tap
from stages.library.trained_head import TrainedHead

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Classifier:
    """An assembled classifier.

    Attributes:
      backbone: float32 pixels in [0, 255] to "bottleneck" and "logits".
      trained: the head and what its features are.
    """

    backbone: "keras.Model"
    trained: TrainedHead

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns float32 (n, classes) for float32 pixels (n, side, side, 3).

        Features are rounded to float16 in between, as in the cache that the head was trained and evaluated on.
        """
        kind = self.trained.features
        outputs = dict(zip(TAPPED, tap(self.backbone, images, self.trained.source.flip), strict=True))
        columns = [np.asarray(outputs[column]) for column in bottlenecks.COLUMNS[kind]]
        values = bottlenecks.quantize(np.hstack(columns))
        if kind == "probabilities":
            values = bottlenecks.softmax(values)
        return bottlenecks.softmax(self.trained.logits(values))


def load(folder: Path, weight_files: Mapping[str, str]) -> Classifier:
    """Assembles the classifier of a trained head.

    Args:
      folder: an out of train-heads.
      weight_files: backbone to local weight file, as `extract.weights` in params.yaml.

    Raises:
      UserError: there is no head, or the backbone's weights are others than the head's features came from.
    """
    trained = trained_head.load(folder)
    source = trained.source
    model, _, weights_sha256 = weights.build_with_weights(source.backbone, source.input_size_px, weight_files)
    if weights_sha256 != source.weights_sha256:
        raise UserError(f"{folder} was trained on features of other weights. Run: dvc repro")
    return Classifier(model, trained)
