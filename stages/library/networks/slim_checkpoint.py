"""Checkpoints of TF-slim's networks, as they were published: a tar archive, or what was in it.

TensorFlow's first format is one file, named `.ckpt`; the second is an `.index` file and data files beside it. A
convolution is `<scope>/weights` and either `biases` or `BatchNorm/{beta,moving_mean,moving_variance}`. ImageNet's
classes are 1 to 1000; 0 is the background, which no image shows.
"""

import glob
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.library.common import artifacts
from stages.library.common.console import UserError
from stages.library.common.downloads import cache_folder
from stages.library.networks import named_weights
from stages.library.networks.contract import Weights

if TYPE_CHECKING:
    import keras

PATTERN_CHARACTERS = frozenset("*?[\\")
CHECKPOINT = re.compile(r".+\.ckpt(-\d+)?|.+\.index")

# What belongs to training: the second classifier, the step, and what optimizers keep of a variable under its name.
TRAINING_ONLY = re.compile(
    r"global_step|beta[12]_power|[^/]+/AuxLogits/.+|"
    r".+/(?:weights|biases|beta|gamma|moving_mean|moving_variance)/[^/]+"
)

# Keras -> slim
VARIABLES = {
    "kernel": "weights",
    "bias": "biases",
    "beta": "BatchNorm/beta",
    "moving_mean": "BatchNorm/moving_mean",
    "moving_variance": "BatchNorm/moving_variance",
}


def published(filename: str) -> Weights:
    """Returns a checkpoint of TF-slim, which has no published hash."""
    return Weights(
        filename, "Apache-2.0", (f"https://storage.googleapis.com/download.tensorflow.org/models/{filename}",)
    )


def load(model: "keras.Model", path: Path, scopes: Mapping[str, str]) -> None:
    """Fills a network from a checkpoint, every variable exactly once; the background's logit is dropped.

    Args:
      model: its Dense layer, if any, gives the logits without the background.
      path: a tar archive with one checkpoint, a file of the first format, or the `.index` of the second.
      scopes: name of each layer with variables -> the slim scope that holds them; a convolution and its batch
        normalization have the same one.

    Raises:
      UserError: the file is no checkpoint, or has other names or shapes than the network.
    """
    from keras.layers import Dense

    def converted(value: np.ndarray, layer: Any) -> np.ndarray:
        # v3's classifier is a 1x1 convolution, hence the reshape.
        return value.reshape(-1, value.shape[-1]).squeeze()[..., 1:] if isinstance(layer, Dense) else value

    def published_name(layer: Any, variable: Any) -> str:
        return f"{scopes[layer.name]}/{VARIABLES[variable.name]}"

    named_weights.fill(model, read(path), path, published_name, converted)


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads the variables of a checkpoint, without those that only training needs.

    Raises:
      UserError: there is no checkpoint, or it is damaged.
    """
    import tensorflow as tf

    try:
        with _gathered(path) as prefix:
            reader = tf.train.load_checkpoint(prefix)
            names = reader.get_variable_to_shape_map()
            return {name: reader.get_tensor(name) for name in names if not TRAINING_ONLY.fullmatch(name)}
    except (tf.errors.OpError, tarfile.TarError, zlib.error, *named_weights.DAMAGE) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} must be a TF-slim checkpoint (.tar.gz, .ckpt or .index): {reason}") from error


def branch_scopes(block: str, branches: str) -> list[str]:
    """Returns the scopes of a block's convolutions.

    Args:
      block: its scope.
      branches: separated by "|", with the names of their convolutions; "Conv2d_" may be left out.
    """
    return [
        f"{block}/Branch_{number}/{name if name.startswith('Conv') else f'Conv2d_{name}'}"
        for number, names in enumerate(branches.split("|"))
        for name in names.split()
    ]


@contextmanager
def _gathered(path: Path) -> Iterator[str]:
    """Gives the prefix of a checkpoint in a folder of its own, whose path is no pattern to TensorFlow."""
    with _scratch_folder() as folder:
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                _extract(path, archive, folder)
        else:
            prefix = path.name.removesuffix(".index")
            for file in [path, *path.parent.glob(f"{glob.escape(prefix)}.data-*")]:
                (folder / f"model{file.name.removeprefix(prefix)}").symlink_to(file.resolve())
        yield str(folder / "model")


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    """Gives an empty folder, in the cache where that can be: there the next run removes what a killed one has left."""
    parent = cache_folder() / "scratch"
    if PATTERN_CHARACTERS.isdisjoint(str(parent)):
        with artifacts.scratch_folder(parent) as folder:
            yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="decant-checkpoint-") as name:
            yield Path(name)


def _extract(path: Path, archive: tarfile.TarFile, folder: Path) -> None:
    """Writes the files of the only checkpoint in an archive into a folder, as `model` or `model.*`."""
    files = {member.name: member for member in archive if member.isfile()}
    if outside := [name for name in files if name.startswith("/") or ".." in PurePosixPath(name).parts]:
        raise UserError(f"{path} holds {outside[0]!r}, a path that leaves the archive: rejected")
    found = [name for name in files if CHECKPOINT.fullmatch(PurePosixPath(name).name)]
    if len(found) != 1:
        raise UserError(
            f"{path} must hold one checkpoint (.ckpt or .index). Received: {', '.join(files) or 'no files'}"
        )
    prefix = found[0].removesuffix(".index")
    for name, member in files.items():
        if name == found[0] or name.startswith(f"{prefix}.data-"):
            content = archive.extractfile(member)
            assert content is not None, "regular files have content"
            with content, (folder / f"model{name.removeprefix(prefix)}").open("xb") as output:
                shutil.copyfileobj(content, output)
