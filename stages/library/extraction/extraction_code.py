"""The code and the versions that decide the features of an image: a part of their fingerprint."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stages.library.common import source_code
from stages.library.extraction import runtime as runtimes
from stages.library.networks import contract, hub
from stages.library.networks.contract import Backbone

# What turns an image's bytes into its features, beside the backbone's plug-in and the runtime, and what it imports ...
TURNING = "extraction.worker", "extraction.batch_slots"
# ... but for what only moves bytes or talks to people.
MOVING = {
    "common": ("artifacts", "console", "downloads", "hashing", "params", "plugins", "store_location", "threads"),
    "extraction": ("feature_store",),
    "features": ("disk_arrays",),
    "records": ("manifest", "tfrecord"),
}


def files(backbone: str, runtime: str) -> set[Path]:
    """Returns the files whose code decides the features by a backbone and a runtime, given their names.

    A backbone that is a row of a table is code without the table: `contract.definition` covers the row.

    An edit of one computes the features anew, unless it changes comments and docstrings alone.
    """
    library = [f"stages.library.{name}" for name in TURNING]
    plugins = [contract.code(backbone), f"stages.library.extraction.runtimes.{runtime}"]
    moving = [f"stages.library.{room}.{name}" for room, names in MOVING.items() for name in names]
    return source_code.closure(
        *({source_code.file_of(name) for name in names} for names in (library + plugins, moving))
    )


def versions(backbone: Backbone, runtime: str, precision: str) -> dict[str, str]:
    """Returns the versions of the packages that make and run the network; raises UserError where one is missing."""
    try:
        own = {package: version(package) for package in backbone.packages}
    except PackageNotFoundError as error:
        raise hub.missing(backbone.name, error.name) from error
    try:
        return own | {package: version(package) for package in runtimes.lookup(runtime).packages(precision)}
    except PackageNotFoundError as error:
        raise runtimes.missing(runtime, error) from error
