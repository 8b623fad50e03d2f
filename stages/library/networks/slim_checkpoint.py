"""Checkpoints of TF-slim's networks, as they were published: a tar archive, or what was in it.

TensorFlow's first format is one file, named `.ckpt`; the second is an `.index` file and data files beside it. A
convolution is `<scope>/weights` and either `biases` or `BatchNorm/{beta,moving_mean,moving_variance}`. ImageNet's
classes are 1 to 1000; 0 is the background, which no image shows.
"""

import contextlib
import glob
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.library.common import artifacts
from stages.library.common.cache_folders import cache_folder
from stages.library.common.console import UserError
from stages.library.networks import named_weights
from stages.library.networks.contract import Weights

if TYPE_CHECKING:
    import keras

PUBLISHED = "https://storage.googleapis.com/download.tensorflow.org/models"
PATTERN_CHARACTERS = frozenset("*?[\\")
CHECKPOINT = re.compile(r".+\.ckpt(-\d+)?|.+\.index")

# What belongs to training: the second classifier, the step, and what optimizers keep of a variable under its name.
TRAINING_ONLY = re.compile(
    r"global_step|beta[12]_power|[^/]+/AuxLogits/.+|"
    r".+/(?:weights|biases|beta|gamma|moving_mean|moving_variance)/[^/]+"
)

# Keras -> slim
VARIABLES = {"kernel": "/weights", "bias": "/biases"}
VARIABLES |= {name: f"/BatchNorm/{name}" for name in ("beta", "moving_mean", "moving_variance")}
INCEPTION_STEM = "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"


def published(filename: str) -> Weights:
    """Returns a checkpoint of TF-slim, which has no published hash."""
    return Weights(filename, "Apache-2.0", (f"{PUBLISHED}/{filename}",))


def load(model: "keras.Model", path: Path, scopes: Mapping[str, str]) -> None:
    """Fills a network from a checkpoint, every variable exactly once; the background's logit is dropped.

    Args:
      model: its Dense layer, if any, gives the logits without the background.
      path: a tar archive with one checkpoint, a file of the first format, or the `.index` of the second.
      scopes: layer -> the slim scope that holds its variables; a convolution and its batch normalization share one.

    Raises:
      UserError: the file is no checkpoint, or has other names or shapes than the network.
    """
    from keras.layers import Dense

    def converted(value: np.ndarray, layer: Any) -> np.ndarray:
        # v3's classifier is a 1x1 convolution, hence the reshape.
        return value.reshape(-1, value.shape[-1]).squeeze()[..., 1:] if isinstance(layer, Dense) else value

    named_weights.fill(model, read(path), path, scopes, VARIABLES, converted)


def read(path: Path) -> dict[str, np.ndarray]:
    """Returns a checkpoint's variables but those that only training needs; UserError where it is none, or damaged."""
    import tensorflow as tf

    try:
        with _gathered(path) as prefix:
            reader = tf.train.load_checkpoint(prefix)
            names = reader.get_variable_to_shape_map()
            return {name: reader.get_tensor(name) for name in names if not TRAINING_ONLY.fullmatch(name)}
    except (tf.errors.OpError, tarfile.TarError, zlib.error, *named_weights.DAMAGE) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} must be a TF-slim checkpoint (.tar.gz, .ckpt or .index): {reason}") from error


def inception_scopes(network: str, blocks: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    """Returns layer -> scope for an Inception network of keras.applications, as `load` takes them.

    Args:
      network: its scope.
      blocks: scope -> names of its convolutions in the order in which keras.applications makes and numbers them, maybe
        without "Conv2d_"; "|" separates branches.
      others: layers that have names of their own.
    """
    convolutions = [*INCEPTION_STEM]
    for block, branches in blocks.items():
        for number, names in enumerate(branches.split("|")):
            full = (name if name.startswith("Conv") else f"Conv2d_{name}" for name in names.split())
            convolutions += [f"{block}/Branch_{number}/{name}" for name in full]
    scopes = dict(others)
    for kind in ("conv2d", "batch_normalization"):
        scopes |= {f"{kind}_{number}" if number else kind: name for number, name in enumerate(convolutions)}
    return {layer: f"{network}/{scope}" for layer, scope in scopes.items()}


@contextlib.contextmanager
def _gathered(path: Path) -> Iterator[str]:
    """Gives the prefix of a checkpoint in a folder of its own, whose path is no pattern to TensorFlow.

    That is in the cache, where the next run removes what a killed one has left, unless the cache's path is a pattern.
    """
    parent = cache_folder() / "scratch"
    with contextlib.ExitStack() as stack:
        if PATTERN_CHARACTERS.isdisjoint(str(parent)):
            folder = stack.enter_context(artifacts.scratch_folder(parent))
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="decant-checkpoint-")))
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                _extract(path, archive, folder)
        else:
            prefix = path.name.removesuffix(".index")
            for file in [path, *path.parent.glob(f"{glob.escape(prefix)}.data-*")]:
                (folder / f"model{file.name.removeprefix(prefix)}").symlink_to(file.resolve())
        yield str(folder / "model")


def _extract(path: Path, archive: tarfile.TarFile, folder: Path) -> None:
    """Writes the files of the only checkpoint in an archive into a folder, as `model` or `model.*`."""
    files = {member.name: member for member in archive if member.isfile()}
    if outside := [name for name in files if name.startswith("/") or ".." in PurePosixPath(name).parts]:
        raise UserError(f"{path} holds {outside[0]!r}, a path that leaves the archive: rejected")
    found = [name for name in files if CHECKPOINT.fullmatch(PurePosixPath(name).name)]
    if len(found) != 1:
        received = ", ".join(files) or "no files"
        raise UserError(f"{path} must hold one checkpoint (.ckpt or .index). Received: {received}")
    prefix = found[0].removesuffix(".index")
    for name, member in files.items():
        if name == found[0] or name.startswith(f"{prefix}.data-"):
            content = archive.extractfile(member)
            assert content is not None, "regular files have content"
            with content, (folder / f"model{name.removeprefix(prefix)}").open("xb") as output:
                shutil.copyfileobj(content, output)
