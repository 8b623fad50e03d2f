"""Weight files of KerasHub's networks: Hugging Face's model.safetensors and KerasHub's model.weights.h5. See `hub`.

Each array of a .safetensors file must be one that the network has, of its shape, or known to be of no use to features.
A config.json beside the file must be of the same network.
"""

import json
import math
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from stages.library.common import guarded_files
from stages.library.common.console import UserError
from stages.library.networks import hdf5, keras_files, named_weights

DTYPES = "F32", "F16", "BF16", "F64"
# How names begin where the file has more than the network, and what features don't need: heads, text, buffers.
PREFIX = re.compile(r"(?:dinov2|dinov2_with_registers|dinov3_vit|vit|swin|vision_model)\.")
UNUSED = re.compile(
    r"(?:text_model|classifier|pooler|lm_head|head_pooler)\..+|logit_(?:scale|bias)|.+\.relative_position_index"
)
# What KerasHub's config.json says of the architecture.
ARCHITECTURE = {"patch_size", "num_layers", "hidden_dim", "num_heads", "intermediate_dim", "mlp_dim"}
ARCHITECTURE |= {"num_register_tokens", "use_swiglu_ffn", "use_gated_mlp", "embed_dim", "depths", "window_size"}
REMEDY = "Give the whole published folder, or the weight file alone"


class Arrays:
    """The arrays of a .safetensors file, as KerasHub's converters ask for them; it stands for their loader."""

    def __init__(self, file: Any):
        """Raises ValueError where two names mean the same."""
        self._file, names = file, list(file.keys())
        self._names = {PREFIX.sub("", name, count=1): name for name in names}
        if len(self._names) < len(names):
            raise ValueError("it has an array twice, with and without the network's name")
        self._left = {name for name in self._names if not UNUSED.fullmatch(name)}

    def get_tensor(self, key: str) -> np.ndarray:
        """Returns an array, float32; ValueError where it is missing or holds no floats."""
        name = PREFIX.sub("", key, count=1)
        if name not in self._names:
            raise ValueError(f"it lacks {key}")
        self._left.discard(name)
        dtype = self._file.get_slice(self._names[name]).get_dtype()
        if dtype not in DTYPES:
            raise ValueError(f"{key} must be one of {', '.join(DTYPES)}. Received: {dtype}")
        return np.asarray(self._file.get_tensor(self._names[name])).astype(np.float32)

    def port_weight(self, keras_variable: Any, hf_weight_key: str, hook_fn: Any = None) -> None:
        """Assigns a variable; `hook_fn` takes array and shape to Keras' layout. ValueError for another shape."""
        shape = tuple(keras_variable.shape)
        value = self.get_tensor(hf_weight_key)
        received = value.shape
        value = hook_fn(value, list(shape)) if hook_fn else value
        if value.shape != shape:
            raise ValueError(f"{hf_weight_key} must have the shape {shape} in Keras. Received: {received}")
        keras_variable.assign(value)

    def check_used(self) -> None:
        """Raises ValueError where arrays are left over."""
        if self._left:
            raise ValueError(f"it has weights that the network lacks: {named_weights.some(self._left)}")


def load(network: Any, converter: Any, config: Mapping[str, Any], path: Path, name: str) -> None:
    """Fills a network of KerasHub; UserError where the file can't be read, or is of another network."""
    if (beside := path.with_name("config.json")).is_file():
        _check_config(beside, network, converter, config, name)
    try:
        if path.name.endswith(".h5"):
            hdf5.check(path)
            with tempfile.TemporaryDirectory(prefix="decant-weights-") as folder:
                keras_files.restore(network, _vision_alone(path, Path(folder)))
            return
        with safe_open(path, framework="numpy") as file:
            arrays = Arrays(file)
            converter.convert_weights(network, arrays, config)
            arrays.check_used()
    except (SafetensorError, *named_weights.DAMAGE) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        kinds = "Hugging Face's model.safetensors or KerasHub's model.weights.h5"
        raise UserError(f"{path} must be {kinds} of {name}: {reason}") from error


def _vision_alone(path: Path, folder: Path) -> Path:
    """Returns a file that has the vision encoder alone, where it is one of two in KerasHub's file."""
    import h5py

    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visit(names.append)
        found = [name for name in names if name.endswith("vision_encoder") and len(file[name])]
        if not found:
            return path
        with h5py.File(folder / path.name, "w") as alone:
            for part in file[found[0]]:
                file.copy(f"{found[0]}/{part}", alone)
        return folder / path.name


def _check_config(path: Path, network: Any, converter: Any, config: Mapping[str, Any], name: str) -> None:
    found = guarded_files.read_json(path, dict[str, Any], REMEDY)
    if "class_name" in found:  # KerasHub's
        made = converter.convert_backbone_config(config)
        expected = {key: made[key] for key in sorted(ARCHITECTURE & made.keys())}
        found = _object(_object(found.get("config")).get("vision_encoder", found))  # SigLIP's has a text encoder, too
        given = {"class_name": found.get("class_name"), **_object(found.get("config"))}
        expected["class_name"] = type(network).__name__
    else:
        given, expected = _object(found.get("vision_config", found)), dict(config)
    for key, value in expected.items():
        wanted = json.loads(json.dumps(value))
        if key in given and given[key] not in (wanted, [wanted, wanted]):  # a patch's side, or both
            shown = guarded_files.shortened(given[key])
            raise UserError(f"{path}: `{key}` must be {wanted!r} for {name}. Received: {shown}. {REMEDY}")


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def interpolated(places: np.ndarray, count: int, antialias: bool) -> np.ndarray:
    """Returns positions for a grid of another size, as Hugging Face's code does: bicubic, half-pixel centres.

    Args:
      places: (tokens, dim), those of a square of patches behind that of the class token, if there is one.
      count: of the tokens wanted, with the class token if it was there.
      antialias: whether a smaller grid sees all of the larger one, as DINOv2's with registers does.
    """
    source = math.isqrt(len(places))
    first = len(places) - source**2
    target = math.isqrt(count - first)
    if source == target:
        return places[None]
    matrix = cubic(source, target, antialias)
    grid = places[first:].reshape(source, source, -1)
    moved = np.einsum("ai,bj,ijd->abd", matrix, matrix, grid, optimize=True).reshape(target**2, -1)
    return np.concatenate([places[:first], moved.astype(np.float32)])[None]


def cubic(source: int, target: int, antialias: bool) -> np.ndarray:
    """Returns the float64 matrix (target, source) of PyTorch's bicubic resampling (Keys 1981) of one axis.

    PyTorch's sharpness is -0.75 and what lies outside repeats the border; with antialias they are -0.5 and nothing.
    """
    sharpness = -0.5 if antialias else -0.75
    stretch = max(source / target, 1.0) if antialias else 1.0
    centres = (np.arange(target) + 0.5) * source / target - 0.5
    around = math.ceil(2 * stretch)
    taps = np.arange(-around, source + around)
    x = np.abs(taps - centres[:, None]) / stretch
    near = ((sharpness + 2) * x - (sharpness + 3)) * x * x + 1
    far = sharpness * (((x - 5) * x + 8) * x - 4)
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    if antialias:
        inside = weights[:, around:-around]
        return np.asarray(inside / inside.sum(axis=1, keepdims=True))
    found = np.zeros((target, source))
    np.add.at(found.T, taps.clip(0, source - 1), weights.T)
    return found
