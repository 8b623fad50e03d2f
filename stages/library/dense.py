"""Fully connected layers in NumPy: what the ridge, softmax and DNN heads are once they are trained."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from stages.library import artifacts
from stages.library.heads import batches

BLOCK_ROWS = 4096
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
      power: to which features are raised before the first layer (see `power_normalise`).
    """

    layers: tuple[Dense, ...]
    power: float = 1.0

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns float32 (n, num_classes) for features (n, dim), in blocks of rows: float16 is never widened whole."""
        out = np.empty((len(features), len(self.layers[-1].bias)), np.float32)
        for rows in batches(len(features), BLOCK_ROWS):
            x = power_normalise(features[rows], self.power).astype(np.float32)
            for layer in self.layers[:-1]:
                x = np.maximum(layer(x), 0)
            out[rows] = self.layers[-1](x)
        return out

    def save(self, folder: Path) -> None:
        """Writes weights.safetensors (kernel_0, bias_0, kernel_1, ...) and config.json."""
        tensors = {f"kernel_{i}": np.ascontiguousarray(layer.kernel) for i, layer in enumerate(self.layers)}
        tensors |= {f"bias_{i}": layer.bias for i, layer in enumerate(self.layers)}
        save_file(tensors, folder / WEIGHTS)
        units = [len(self.layers[0].kernel), *(len(layer.bias) for layer in self.layers)]
        artifacts.write_json(folder / "config.json", {"activation": "relu", "power": self.power, "units": units})

    @classmethod
    def load(cls, folder: Path) -> "DenseNetwork":
        """Reads what `save` wrote."""
        tensors = load_file(folder / WEIGHTS)
        layers = tuple(Dense(tensors[f"kernel_{i}"], tensors[f"bias_{i}"]) for i in range(len(tensors) // 2))
        return cls(layers, artifacts.read_json(folder / "config.json")["power"])


def power_normalise(features: np.ndarray, power: float) -> np.ndarray:
    """Raises features to a power, keeping their signs; 0.5 evens out columns of which a few values are very large.

    Args:
      features: float16 or float32 (n, dim).
      power: in (0, 1]; 1 returns the features themselves.

    Returns:
      Same shape and dtype.

    Reference: Perronnin, Sánchez and Mensink, Improving the Fisher Kernel for Large-Scale Image Classification, 2010.
    """
    if power == 1:
        return features
    out = np.empty_like(features)
    for rows in batches(len(features), BLOCK_ROWS):
        block = features[rows].astype(np.float32)
        out[rows] = np.sign(block) * np.abs(block) ** np.float32(power)
    return out


@dataclass(frozen=True)
class Standardization:
    """Per-column shift and scale that bring features to mean 0 and equal deviation.

    Attributes:
      mean, scale: float64 (dim,).
    """

    mean: np.ndarray
    scale: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Returns standardized float32 features."""
        return (features.astype(np.float32) - self.mean.astype(np.float32)) / self.scale.astype(np.float32)

    def folded_into(self, layer: Dense) -> Dense:
        """Returns the layer that gives on raw features what `layer` gives on standardized ones."""
        kernel = layer.kernel / self.scale[:, None]
        bias = layer.bias - self.mean @ kernel
        return Dense(kernel.astype(np.float32), bias.astype(np.float32))


def standardization(features: np.ndarray, rows: np.ndarray, deviation: float = 1.0) -> Standardization:
    """Measures the columns of some rows, in blocks.

    A column that is nearly constant keeps a small scale out of the denominator: to every variance a hundredth of the
    mean variance is added, else one unusual picture would be thousands of deviations away.

    Args:
      features: float16 or float32 (n, dim).
      rows: int64, the rows to measure, at least one.
      deviation: standard deviation to which columns are brought.
    """
    total = np.zeros(features.shape[1])
    squares = np.zeros(features.shape[1])
    origin = features[rows[0]].astype(np.float64)  # shifted, so that the difference of squares loses no digits
    for block in batches(len(rows), BLOCK_ROWS):
        x = features[rows[block]] - origin
        total += x.sum(axis=0)
        squares += np.einsum("ij,ij->j", x, x)
    mean = total / len(rows)
    variance = np.maximum(squares / len(rows) - mean**2, 0)
    floor = 0.01 * variance.mean()
    scale = np.sqrt(variance + floor) if floor > 0 else np.ones_like(mean)
    return Standardization(origin + mean, scale / deviation)
