"""The code and the versions that decide the features of an image: a part of their fingerprint."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stages.library.common import source_code
from stages.library.common.console import UserError
from stages.library.extraction import runtime as runtimes

# What turns an image's bytes into its features, beside the backbone's plug-in and the runtime, and what it imports ...
TURNING = "extraction.worker", "extraction.batch_slots"
# ... but for what only moves bytes or talks to people.
MOVING = (
    "common.artifacts",
    "common.console",
    "features.disk_arrays",
    "common.downloads",
    "extraction.feature_store",
    "common.params",
    "common.plugins",
    "records.manifest",
    "records.tfrecord",
    "common.store_location",
    "common.threads",
)


def files(backbone: str, runtime: str) -> set[Path]:
    """Returns the files whose code decides the features by a backbone and a runtime, given their names.

    An edit of one computes the features anew, unless it changes comments and docstrings alone.
    """
    library = [f"stages.library.{name}" for name in TURNING]
    plugins = [f"stages.plugins.backbones.{backbone}", f"stages.library.extraction.runtimes.{runtime}"]
    without = {source_code.file_of(f"stages.library.{name}") for name in MOVING}
    return source_code.closure(map(source_code.file_of, library + plugins), without)


def versions(runtime: str, precision: str) -> dict[str, str]:
    """Returns the installed versions of the packages that run the network.

    Raises:
      UserError: one is missing.
    """
    try:
        return {package: version(package) for package in runtimes.lookup(runtime).packages(precision)}
    except PackageNotFoundError as error:
        raise UserError(
            f"`extract.runtime: {runtime}` needs what is missing ({error.name}). "
            f"Run: pip install -r requirements-{runtime}.txt"
        ) from error
