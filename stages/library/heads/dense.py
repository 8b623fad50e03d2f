"""Fully connected layers in NumPy: what the ridge, logistic, softmax and DNN heads are once they are trained."""

from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import pydantic
from safetensors.numpy import load_file, save
from typing_extensions import TypedDict

from stages.library.common import artifacts
from stages.library.common.guarded_files import read_json
from stages.library.heads.scaling import RowScaling

WEIGHTS = "weights.safetensors"


class Config(TypedDict):
    """Content of config.json: `units` has the features and each layer's outputs."""

    row_scaling: RowScaling
    units: Annotated[list[Annotated[int, pydantic.Field(ge=1)]], pydantic.Field(min_length=2)]


@dataclass(frozen=True)
class Dense:
    """One layer: x @ kernel + bias, with kernel float32 (inputs, outputs) and bias float32 (outputs,)."""

    kernel: np.ndarray
    bias: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x @ self.kernel + self.bias)


@dataclass(frozen=True)
class DenseNetwork:
    """A `Fitted` head: scaled rows go through the layers in order, ReLU between them; the last one gives logits."""

    layers: tuple[Dense, ...]
    row_scaling: RowScaling = field(default_factory=RowScaling)

    def logits(self, features: np.ndarray) -> np.ndarray:
        x = self.row_scaling(features).astype(np.float32)
        for layer in self.layers[:-1]:
            x = np.maximum(layer(x), 0)
        return self.layers[-1](x)

    def divided(self, by: float) -> "DenseNetwork":
        """Returns the network whose logits are these, divided by a number."""
        last = self.layers[-1]
        scaled = Dense(last.kernel / np.float32(by), last.bias / np.float32(by))
        return replace(self, layers=(*self.layers[:-1], scaled))

    def save(self, folder: Path) -> None:
        """Writes weights.safetensors (kernel_0, bias_0, kernel_1, ...) and config.json."""
        tensors = {f"kernel_{i}": np.ascontiguousarray(layer.kernel) for i, layer in enumerate(self.layers)}
        tensors |= {f"bias_{i}": layer.bias for i, layer in enumerate(self.layers)}
        (folder / WEIGHTS).write_bytes(save(tensors))  # unlike save_file, with Python's error on a full disk
        units = [len(self.layers[0].kernel), *(len(layer.bias) for layer in self.layers)]
        config = {"activation": "relu", "row_scaling": asdict(self.row_scaling), "units": units}
        artifacts.write_json(folder / "config.json", config)

    @classmethod
    def load(cls, folder: Path, dim: int, num_classes: int) -> "DenseNetwork":
        """Reads what `save` wrote; UserError or ValueError where config.json is damaged or the layers are others."""
        config: Config = read_json(folder / "config.json", Config)
        units, tensors = config["units"], load_file(folder / WEIGHTS)
        expected: dict[str, tuple[int, ...]] = {f"kernel_{i}": pair for i, pair in enumerate(pairwise(units))}
        expected |= {f"bias_{i}": (width,) for i, width in enumerate(units[1:])}
        found = {name: tensor.shape for name, tensor in tensors.items() if tensor.dtype == np.float32}
        if found != expected or (units[0], units[-1]) != (dim, num_classes):
            raise ValueError(f"{WEIGHTS} must lead from {dim} features to {num_classes} logits by layers of {units}")
        layers = tuple(Dense(tensors[f"kernel_{i}"], tensors[f"bias_{i}"]) for i in range(len(units) - 1))
        return cls(layers, config["row_scaling"])
