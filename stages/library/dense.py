"""Fully connected layers in NumPy: what the ridge, logistic, softmax and DNN heads are once they are trained."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from stages.library import artifacts
from stages.library.feature_scaling import BLOCK_ROWS, RowScaling
from stages.library.heads import batches

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Dense:
    """One layer: x @ kernel + bias, with kernel float32 (inputs, outputs) and bias float32 (outputs,)."""

    kernel: np.ndarray
    bias: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x @ self.kernel + self.bias)


@dataclass(frozen=True)
class DenseNetwork:
    """Layers with ReLU between them; the last one gives logits. A `Fitted` head.

    Attributes:
      layers: in order.
      row_scaling: of the features, before the first layer.
    """

    layers: tuple[Dense, ...]
    row_scaling: RowScaling = field(default_factory=RowScaling)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns float32 (n, num_classes) for features (n, dim), in blocks of rows: float16 is never widened whole."""
        return self.logits_of_rows(features, np.arange(len(features)))

    def logits_of_rows(self, features: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Returns the logits of some rows (int64 ids), float32 (len(rows), num_classes), copying only blocks."""
        out = np.empty((len(rows), len(self.layers[-1].bias)), np.float32)
        for block in batches(len(rows), BLOCK_ROWS):
            x = self.row_scaling(features[rows[block]]).astype(np.float32)
            for layer in self.layers[:-1]:
                x = np.maximum(layer(x), 0)
            out[block] = self.layers[-1](x)
        return out

    def save(self, folder: Path) -> None:
        """Writes weights.safetensors (kernel_0, bias_0, kernel_1, ...) and config.json."""
        tensors = {f"kernel_{i}": np.ascontiguousarray(layer.kernel) for i, layer in enumerate(self.layers)}
        tensors |= {f"bias_{i}": layer.bias for i, layer in enumerate(self.layers)}
        (folder / WEIGHTS).write_bytes(save(tensors))  # unlike save_file, with Python's error on a full disk
        units = [len(self.layers[0].kernel), *(len(layer.bias) for layer in self.layers)]
        config = {"activation": "relu", "row_scaling": asdict(self.row_scaling), "units": units}
        artifacts.write_json(folder / "config.json", config)

    @classmethod
    def load(cls, folder: Path) -> "DenseNetwork":
        """Reads what `save` wrote."""
        tensors = load_file(folder / WEIGHTS)
        layers = tuple(Dense(tensors[f"kernel_{i}"], tensors[f"bias_{i}"]) for i in range(len(tensors) // 2))
        return cls(layers, RowScaling(**artifacts.read_json(folder / "config.json")["row_scaling"]))
