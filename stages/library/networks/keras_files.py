"""Keras' weight files: .h5 of Keras 1 and 2, as those of keras.applications are, .weights.h5 and .keras of Keras 3.

An .h5 file lists its layers in the network's topological order, and their variables are taken in that order, not by
names, which depend on what else was built in the process that wrote it. The others number the layers of each class;
there the network may be a layer of another one. Of a .keras archive nothing but the weights is read: its configuration
may name code.
"""

import contextlib
import itertools
import re
import shutil
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stages.library.common import artifacts, console
from stages.library.common.cache_folders import cache_folder
from stages.library.common.console import UserError
from stages.library.networks import hdf5, named_weights

if TYPE_CHECKING:
    import h5py
    import keras

SUFFIXES = ".h5", ".keras"
ARCHIVED = "model.weights.h5"  # in a .keras archive
MOST_EXPANSION, SMALL_BYTES = 3, 1 << 26  # of what is unpacked; Keras compresses nothing
TRAINING_ONLY = re.compile(r"optimizer/.*|metrics/.*|(?:.*/)?seed_generator\w*/.*|.*(?:_tracker|_metrics?)/.*")


class Pair(NamedTuple):
    """A variable of a network and the array that a file has for it; either may be missing."""

    layer: Any
    variable: Any
    array: Any

    @property
    def fits(self) -> bool:
        """Whether both are there, in one shape."""
        if self.variable is None or self.array is None:
            return False
        return tuple(self.variable.shape) == tuple(self.array.shape)


def load(model: "keras.Model", path: Path) -> "keras.Model":
    """Fills a backbone, whose outputs are "bottleneck" and "logits", from a file, every variable exactly once.

    Returns `model`; or the part of it that gives the pooled features, where the file has no top or one of its own.

    Raises:
      UserError: the file can't be read, or has other layers or shapes than the network.
    """
    import keras

    features = keras.Model(model.input, {"bottleneck": model.output["bottleneck"]}, name=model.name)
    try:
        with _opened(path) as file:
            pairs, others = _pairs(file, model.layers)
            lower = {id(layer) for layer in features.layers}
            body, top = ([pair for pair in pairs if (id(pair.layer) in lower) == wanted] for wanted in (True, False))
            if wrong := [pair for pair in body if not pair.fits]:
                raise ValueError(_difference(wrong))
            whole = not others and all(pair.fits for pair in top)
            for pair in [*body, *top] if whole else body:
                pair.variable.assign(pair.array[()])
    except (zipfile.BadZipFile, zlib.error, AttributeError, *named_weights.DAMAGE) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        kinds = f"a .h5, .weights.h5 or .keras weight file of {model.name}, with its top or without"
        raise UserError(f"{path} must be {kinds}: {reason}") from error
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):  # Normalization computes with copies of its variables
            layer.finalize_state()
    if whole:
        return model
    if unused := others + sum(pair.array is not None for pair in top):
        console.say(
            f"{path}: {unused} arrays are of another top than that of {model.name}; its features alone are used"
        )
    return features


def restore(model: "keras.Model", path: Path) -> None:
    """Fills a network trained here from a file that `hdf5.check` has read; OSError, ValueError: it does not fit."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns where some layers keep random weights
            model.load_weights(path)
    except (UserWarning, KeyError, IndexError, TypeError, AttributeError, RuntimeError, MemoryError) as error:
        raise ValueError(str(error) or type(error).__name__) from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator["h5py.File"]:
    """Gives the HDF5 file at a path or in the .keras archive there; ValueError where HDF5 can't read it."""
    import h5py

    with contextlib.ExitStack() as stack:
        if zipfile.is_zipfile(path):
            folder = stack.enter_context(artifacts.scratch_folder(cache_folder() / "scratch"))
            path = _unpacked(path, folder)
        hdf5.check(path)
        yield stack.enter_context(h5py.File(path, "r"))


def _unpacked(path: Path, folder: Path) -> Path:
    most = max(MOST_EXPANSION * path.stat().st_size, SMALL_BYTES)
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(ARCHIVED)
        if member.file_size > most:
            raise ValueError(f"{ARCHIVED} says that it unpacks to {member.file_size} bytes, more than {most}")
        with archive.open(member) as content, (folder / ARCHIVED).open("xb") as output:
            shutil.copyfileobj(content, output)  # which stops at that size
    return folder / ARCHIVED


def _pairs(file: "h5py.File", layers: Sequence[Any]) -> tuple[list[Pair], int]:
    """Returns what belongs together, in the order of the layers, and how many arrays of no layer the file has."""
    root = file.get("model_weights", file)  # of a whole model of Keras 2
    if any(name.startswith("layer_names") for name in root.attrs):
        return _in_order(root, layers)
    return _by_place(file, layers)


def _in_order(root: "h5py.Group", layers: Sequence[Any]) -> tuple[list[Pair], int]:
    layers = [layer for layer in layers if layer.weights]
    parts = [root[name] for name in _listed(root, "layer_names")]
    groups = list(filter(None, ([part[name] for name in _listed(part, "weight_names")] for part in parts)))
    pairs = []
    for number, layer in enumerate(layers):
        arrays = groups[number] if number < len(groups) else []
        variables = layer.trainable_weights + layer.non_trainable_weights
        pairs += [Pair(layer, *pair) for pair in itertools.zip_longest(variables, arrays)]
    return pairs, sum(map(len, groups[len(layers) :]))


def _listed(group: "h5py.Group", key: str) -> list[str]:
    """Returns the names in an attribute, or in those that Keras splits a long one into: key0, key1, ..."""
    parts = [key, *(f"{key}{number}" for number in range(len(group.attrs)))]
    names = [name for part in parts if part in group.attrs for name in group.attrs[part]]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _by_place(file: "h5py.File", layers: Sequence[Any]) -> tuple[list[Pair], int]:
    import h5py

    arrays: dict[str, h5py.Dataset] = {}
    file.visititems(lambda name, item: arrays.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    wanted = list(_places(layers, "layers/"))
    first = wanted[0][-1]
    roots = [name.removesuffix(first) for name in arrays if f"/{name}".endswith(f"/{first}")]
    root = max(roots, key=lambda root: sum(root + place in arrays for *_, place in wanted), default="")
    pairs = [Pair(layer, variable, arrays.pop(root + place, None)) for layer, variable, place in wanted]
    return pairs, sum(not TRAINING_ONLY.fullmatch(name) for name in arrays)


def _places(layers: Iterable[Any], prefix: str) -> Iterator[tuple[Any, Any, str]]:
    """Yields each variable of some layers, after its layer and before its name in a file of Keras 3."""
    counts: Counter[str] = Counter()
    for layer in layers:
        kind = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)).lower()
        name = f"{prefix}{kind}_{counts[kind]}" if counts[kind] else f"{prefix}{kind}"
        counts[kind] += 1
        for _, variable, place in _places(getattr(layer, "layers", ()), f"{name}/layers/"):
            yield layer, variable, place
        if not hasattr(layer, "layers"):
            yield from ((layer, variable, f"{name}/vars/{number}") for number, variable in enumerate(layer.weights))


def _difference(wrong: Sequence[Pair]) -> str:
    """Says how the first of some pairs does not fit, and how many there are."""
    layer, variable, array = wrong[0]
    if variable is None:
        reason = f"its layer for {layer.name} has an array too many"
    elif array is None:
        reason = f"it lacks {layer.name}/{variable.name}"
    else:
        shape = tuple(variable.shape)
        reason = f"{layer.name}/{variable.name} must have the shape {shape}. Received: {tuple(array.shape)}"
    return reason + (f"; {len(wrong) - 1} more do not fit" if wrong[1:] else "")
