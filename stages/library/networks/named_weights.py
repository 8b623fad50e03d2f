"""Fills a network from the arrays of a weight file, by name: every variable and every array exactly once."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.library.common.console import UserError

if TYPE_CHECKING:
    import keras

NAMES_SHOWN = 5
# What readers of weight files raise at damaged ones, beside errors of their own.
DAMAGE = OSError, ValueError, RuntimeError, EOFError, LookupError, MemoryError, ArithmeticError, TypeError

# Keras -> PyTorch; a kernel and the scale of a batch normalization are both "weight" there.
TORCH_VARIABLES = {"kernel": ".weight", "bias": ".bias", "gamma": ".weight", "beta": ".bias"}
TORCH_VARIABLES |= {"moving_mean": ".running_mean", "moving_variance": ".running_var"}


def fill(
    model: "keras.Model",
    arrays: Mapping[str, np.ndarray],
    path: Path,
    modules: Mapping[str, str],
    variables: Mapping[str, str],
    converted: Callable[[np.ndarray, Any], np.ndarray],
) -> None:
    """Assigns every variable of a network.

    Args:
      model: to be filled; its name stands in errors.
      arrays: by published name; each must belong to a variable.
      path: of the weight file, for errors.
      modules: name of each layer with variables -> how the names of its arrays begin.
      variables: Keras' name of a variable -> how its array's name ends.
      converted: (array, layer) -> the array in Keras' layout.

    Raises:
      UserError: an array is missing, is left over, or has another shape.
    """
    wanted = {
        f"{modules[layer.name]}{variables[variable.name]}": (layer, variable)
        for layer in model.layers
        for variable in layer.weights
    }
    if missing := wanted.keys() - arrays.keys():
        raise UserError(f"{path} lacks weights of {model.name}: {some(missing)}")
    if unused := arrays.keys() - wanted.keys():
        raise UserError(f"{path} has weights that {model.name} lacks: {some(unused)}")
    for name, (layer, variable) in wanted.items():
        value, shape = converted(arrays[name], layer), tuple(variable.shape)
        if value.shape != shape:
            raise UserError(f"{path}: {name} must have the shape {shape} in Keras. Received: {value.shape}")
        variable.assign(value)


def fill_from_torch(
    model: "keras.Model", state: Mapping[str, np.ndarray], path: Path, modules: Mapping[str, str]
) -> None:
    """Assigns every variable of a network from a state dict of PyTorch, as `fill` does; counters are left out.

    OIHW kernels become HWIO, depthwise ones (C, 1, H, W) become (H, W, C, 1).
    """
    from keras.layers import DepthwiseConv2D

    def converted(value: np.ndarray, layer: Any) -> np.ndarray:
        if value.ndim == 4:
            return value.transpose(2, 3, 0, 1) if isinstance(layer, DepthwiseConv2D) else value.transpose(2, 3, 1, 0)
        return value.T

    arrays = {name: value for name, value in state.items() if not name.endswith(".num_batches_tracked")}
    fill(model, arrays, path, modules, TORCH_VARIABLES, converted)


def some(names: Collection[str]) -> str:
    """Returns the first names, and how many more there are."""
    shown = ", ".join(sorted(names)[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"
