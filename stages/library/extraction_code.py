"""The code and the versions that decide the features of a picture: a part of their fingerprint."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stages.library import backbones, runtimes, source_code
from stages.library.console import UserError

# What turns a picture's bytes into its features, beside the backbone's plug-in and the runtime, and what it imports ...
TURNING = "extraction_worker", "slots"
# ... but for what only moves bytes or talks to people.
MOVING = (
    "artifacts",
    "console",
    "disk_arrays",
    "downloads",
    "feature_store",
    "params",
    "record_index",
    "records",
    "store_location",
    "threads",
)


def files(backbone: str, runtime: str) -> set[Path]:
    """Returns the files whose code decides the features by a backbone and a runtime, given their names.

    An edit of one computes the features anew, unless it changes comments and docstrings alone.
    """
    library = [f"{__package__}.{name}" for name in TURNING]
    plugins = [f"{backbones.__name__}.{backbone}", f"{runtimes.__name__}.{runtime}"]
    without = {source_code.file_of(f"{__package__}.{name}") for name in MOVING}
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
