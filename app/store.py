"""Shows, verifies and prunes the store of what networks said of images.

It lies in the user's cache folder, under $DECANT_CACHE, or at $DECANT_STORE (a
path or URL), and can be removed at any time: what is missing is computed again.
The checkpoints of killed trainings, in the cache folder too, are shown and
pruned with it.

examples: python -m app.store
          python -m app.store verify
          python -m app.store prune --unused-for 30
"""

import argparse
import contextlib
import fcntl
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired

import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
from typing_extensions import TypedDict

from stages.library.common import artifacts, console, store_location
from stages.library.common.cache_folders import cache_folder
from stages.library.common.console import UserError
from stages.library.common.guarded_files import read_json
from stages.library.extraction import feature_store

DAY_SECONDS = 86_400


@pydantic.with_config(extra="allow")
class Source(TypedDict):
    """What is shown of source.json, which says what the features depend on beside the images."""

    preprocessing: NotRequired[dict[str, Any]]
    plan: NotRequired[dict[str, Any]]


@dataclass
class Folder:
    """The features of one fingerprint."""

    path: Path
    backbone: str
    description: str  # what distinguishes it from others of the same backbone
    used: float  # when it was last read or made, seconds since the epoch; 0 where its file system doesn't say
    images: Counter[str] = field(default_factory=Counter)  # by data set; an image in two parts counts twice
    sizes: Counter[str] = field(default_factory=Counter)  # bytes, by data set
    unreadable: int = 0  # parts whose rows can't be counted


@dataclass(frozen=True)
class Training:
    """The checkpoints of a training that was killed; the run that goes on, with the same code, removes them."""

    folder: Path
    used: float  # when the last epoch ended, seconds since the epoch; 0 where it did not come so far
    size_bytes: int


def main() -> None:
    """Runs the program; exit status 1 where `verify` found damage."""
    arguments = parse_arguments()
    root = store_location.root()
    folders = [read(path) for path in sorted(root.glob("*"), key=str) if path.is_dir()]
    if arguments.command == "verify":
        sys.exit(1 if verify(folders) else 0)
    elif arguments.command == "prune":
        prune(folders, arguments)
    else:
        show(root, folders, trainings())


def parse_arguments() -> argparse.Namespace:
    """Reads and checks the command line."""
    parser = console.Parser(prog="python -m app.store", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("show", help="list what there is, by backbone and data set (default)")
    commands.add_parser("verify", help="compare every part with its hash and remove what is damaged")
    about = "remove features and unfinished trainings; what is needed is made again"
    pruning = commands.add_parser("prune", help=about)
    pruning.add_argument("--backbone", metavar="NAME", help="only those of this network")
    pruning.add_argument("--unused-for", type=float, metavar="DAYS", help="only those not read for so long")
    pruning.add_argument("--all", action="store_true", help="everything")
    pruning.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    arguments = parser.parse_args()
    if arguments.command == "prune":
        if not arguments.all and arguments.backbone is None and arguments.unused_for is None:
            pruning.error("one of --backbone, --unused-for and --all is needed")
        if arguments.unused_for is not None and not arguments.unused_for >= 0:
            pruning.error(f"--unused-for must be >= 0. Received: {arguments.unused_for}")
    return arguments


def read(path: Path) -> Folder:
    """Returns what one folder of the store holds; reads the footers of its parts, not their features."""
    source, used = {}, 0.0
    with contextlib.suppress(OSError, UserError):
        source = read_json(path / feature_store.SOURCE, Source)
        used = (path / feature_store.SOURCE).stat().st_mtime
    preprocessing, plan = source.get("preprocessing", {}), source.get("plan", {})
    crop = preprocessing.get("central_crop", 1)
    words = [f"{preprocessing.get('input_size_px', '?')} px", preprocessing.get("geometry", "squash")]
    words += ([] if crop == 1 else [crop]) + [preprocessing.get("resize", "?")] + (["flip"] if plan.get("flip") else [])
    words += [source.get("runtime", "?"), plan.get("precision", "?")]
    folder = Folder(path, str(source.get("backbone", "?")), " ".join(map(str, words)), used)
    for part in sorted(path.glob("*.parquet"), key=str):
        try:
            with part.open("rb") as file:
                metadata = pq.read_metadata(file)
            dataset = (metadata.metadata or {})[feature_store.DATASET].decode()
            folder.images[dataset] += metadata.num_rows
            folder.sizes[dataset] += part.stat().st_size
        except (OSError, KeyError, UnicodeDecodeError, pa.ArrowException):
            folder.unreadable += 1
    return folder


def trainings() -> list[Training]:
    """Returns what lies in the cache folder, that of trainings which run now included."""
    found = []
    for folder in sorted((cache_folder() / "checkpoints").glob("*/")):
        used, size_bytes = 0.0, 0
        with contextlib.suppress(FileNotFoundError):  # a run replaces its files, and ends by removing the folder
            for path in folder.iterdir():
                stat = path.stat()
                used, size_bytes = max(used, stat.st_mtime), size_bytes + stat.st_size
        found.append(Training(folder, used, size_bytes))
    return found


def show(root: Path, folders: Sequence[Folder], killed: Sequence[Training]) -> None:
    """Prints a line for each backbone and data set, largest first, and one on killed trainings."""
    rows = sorted(
        (-folder.sizes[dataset], folder.backbone, folder.description, dataset, count, _age(folder.used))
        for folder in folders
        for dataset, count in folder.images.items()
    )
    console.say(f"{'backbone':<22} {'features':<38} {'data set':<14} {'images':>10} {'size':>10}  last used")
    for size, backbone, description, dataset, count, age in rows:
        console.say(f"{backbone:<22} {description:<38} {dataset:<14} {count:>10,} {_megabytes(-size):>10}  {age}")
    following = "Make room: python -m app.store prune --unused-for 30" if rows else "dvc repro fills it"
    if damaged := sum(folder.unreadable for folder in folders):
        following = f"{damaged} unreadable parts. Run: python -m app.store verify"
    images = sum(folder.images.total() for folder in folders)
    size = sum(folder.sizes.total() for folder in folders)
    console.say(f"{root}: {images:,} images, {_megabytes(size)}. {following}")
    if killed:
        size, oldest = sum(training.size_bytes for training in killed), min(training.used for training in killed)
        console.say(
            f"{killed[0].folder.parent}: {len(killed)} unfinished trainings, {_megabytes(size)}, the oldest "
            f"{_age(oldest)}. dvc repro goes on with one whose code and parameters are the same"
        )


def verify(folders: Sequence[Folder]) -> int:
    """Removes every part that is not what its name says, and returns how many."""
    parts = [part for folder in folders for part in sorted(folder.path.glob("*.parquet"), key=str)]
    damaged = 0
    for part in console.progress(parts, "verify", "parts"):
        if artifacts.sha256_file(part) != part.stem:
            console.say(f"removed {part}: damaged")
            part.unlink(missing_ok=True)
            damaged += 1
    following = "dvc repro computes again what is lost and needed" if damaged else "Nothing to be done"
    console.say(f"{len(parts):,} parts, {damaged} damaged. {following}")
    return damaged


def prune(folders: Sequence[Folder], arguments: argparse.Namespace) -> None:
    """Removes folders of the store and checkpoints of killed trainings, where all given conditions hold for them."""
    latest = time.time() - (arguments.unused_for or 0) * DAY_SECONDS
    done = "would remove" if arguments.dry_run else "removed"
    freed = 0
    for folder in folders:
        unused = not arguments.unused_for or 0 < folder.used <= latest
        if unused and arguments.backbone in (None, folder.backbone):
            console.say(f"{done} {folder.backbone} {folder.description}: {_age(folder.used)}")
            freed += folder.sizes.total()
            if not arguments.dry_run:
                store_location.remove(folder.path)
    for training in trainings() if arguments.backbone is None else ():  # of which one can't tell the backbone
        if training.used > latest:
            continue
        if arguments.dry_run or _remove(training.folder):
            console.say(f"{done} the unfinished training {training.folder.name[:12]}: {_age(training.used)}")
            freed += training.size_bytes
        else:
            console.say(f"left {training.folder}: a run is at it")
    following = "Without --dry-run they are removed" if arguments.dry_run else "dvc repro computes again what it needs"
    console.say(f"{_megabytes(freed)} {'would be' if arguments.dry_run else 'are'} free. {following}")


def _remove(checkpoints: Path) -> bool:
    """Deletes the folder of a training; returns False where a run is at it."""
    lock = checkpoints.with_name(f"{checkpoints.name}.lock")
    with lock.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(checkpoints, ignore_errors=True)
        lock.unlink()  # as the end of a run does: one that waits for the lock sees that it is gone
    return True


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _age(used: float) -> str:
    if not used:
        return "unknown"
    days = max(time.time() - used, 0) / DAY_SECONDS
    return "today" if days < 1 else f"{days:.0f} days ago"


if __name__ == "__main__":
    console.run(main)
