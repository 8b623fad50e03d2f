"""A backbone and a head as one classifier: pixels in, probabilities out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.library.common.console import UserError
from stages.library.extraction.runtime import FORWARD_OUTPUTS, tap
from stages.library.features import cache
from stages.library.heads import trained_head
from stages.library.heads.trained_head import TrainedHead
from stages.library.networks import weights
from stages.library.scoring.probabilities import softmax

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
        outputs = dict(zip(FORWARD_OUTPUTS, tap(self.backbone, images, self.trained.source.flip), strict=True))
        columns = [np.asarray(outputs[column]) for column in cache.COLUMNS[kind]]
        values = cache.quantize(np.hstack(columns))
        if kind == "probabilities":
            values = softmax(values)
        return softmax(self.trained.logits(values))


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
