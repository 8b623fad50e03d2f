"""Trains on the images of a folder and shows a leaderboard.

It is that of the heads that take seconds, or with --all that of all models.
Settings go into params.yaml, where `git diff` shows them. A run that fails or
is stopped leaves params.yaml as it was; what has been computed is kept. What a
killed one leaves there, the next one takes out. Without a folder, it trains as
params.yaml says.

example: python -m app.train --folder ~/images
         python -m app.train --folder ~/images --labels labels.csv --all
         python -m app.train --all
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from app import conflicts, estimate, place
from stages.library.common import artifacts, console, guarded_files
from stages.library.common.console import UserError
from stages.library.common.named_files import named
from stages.library.common.params import ParamsError
from stages.library.records import dataset_file
from stages.library.settings import load_params
from stages.library.sources import image_trees

PARAMS = Path("params.yaml")
UNDO = Path(".dvc/tmp/train.json")  # params.yaml before and after it got the settings of a training, while that runs
LEADERBOARD = Path("artifacts/report/leaderboard.md")
HEADS_ALONE = "New images make all of it new. The heads alone: . .venv/bin/activate && dvc repro evaluate"
# Heads that take seconds where the others take minutes.
QUICK = "ridge", "logistic", "softmax"


def main() -> None:
    """Runs the program."""
    parser = console.Parser(prog="python -m app.train", description=__doc__)
    parser.add_argument("--folder", default="", help="the images: CLASS/image, or what --labels names")
    parser.add_argument("--labels", default="", help="a table with the columns filename and label")
    parser.add_argument("--all", action="store_true", help="all heads, fine-tuning and training from scratch, too")
    parser.add_argument("-S", "--set", action="append", default=[], metavar="KEY=VALUE", help="as for `dvc exp run`")
    arguments = parser.parse_args()
    place.check()
    conflicts.reject(Path())
    # A shell that runs it in the background may have SIGINT ignored, by which DVC and its stage are stopped here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # a closed terminal
        signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))
    values = chosen(arguments.folder, arguments.labels)
    waiting = "waiting for another training in this folder"
    with artifacts.locked(Path(".dvc/tmp/train"), waiting) as lock:
        os.set_inheritable(lock, True)  # DVC holds it, too, for it goes on where this program is killed
        restore(PARAMS, UNDO)
        with settings(PARAMS, UNDO, arguments.set, values):
            train(everything=arguments.all)


def train(everything: bool) -> None:
    """Runs DVC, says before the long stages what they work on, and shows the leaderboard."""
    dvc("repro", "tfrecord")
    params = load_params(PARAMS)
    data = dataset_file.read(Path("data/tfrecord/dataset.json"))
    quick = [head for head in params["heads"] if head in QUICK] or params["heads"]
    heads = params["heads"] if everything else quick
    first, rest = (
        estimate.shown(seconds) for seconds in estimate.seconds(data["images"], len(data["classes"]), params, quick)
    )
    console.say(
        f"{data['name']}: {data['images']:,} images in {len(data['classes']):,} classes. If all is new, the first "
        f"leaderboard ({', '.join(quick)}) takes {first}, everything else {rest}"
    )
    if everything:
        console.say(HEADS_ALONE)
        dvc("repro")
    else:
        stages = [("evaluate", params["backbones"]), ("evaluate-joined", params["joined"])]
        evaluations = [f"{stage}@{name}-{head}" for stage, names in stages for name in names for head in heads]
        audits = params["backbones"] if params["heads"][0] in heads else []
        dvc("repro", *evaluations, *(f"map@{name}" for name in audits))  # and the audits before
        dvc("repro", "--single-item", "report")
    console.say("", *LEADERBOARD.read_text(encoding="utf-8").splitlines(), "")
    console.say(
        "Images and curves: artifacts/report/index.html. Next: .venv/bin/python -m app.predict IMAGE, or app.web"
    )
    if not everything:
        console.say(f"The other heads, fine-tuning and training from scratch, {rest}: make train-all")


def chosen(folder: str, labels: str) -> dict[str, Any]:
    """Returns the settings, by dotted key, that name a folder of images and a table of labels, both or none of it."""
    if not folder and labels:
        raise UserError("LABELS (--labels) needs the folder of its images, too: PICTURES=folder (--folder)")
    if not folder:
        return {}
    values = {"dataset.name": "folder", "dataset.folder": _found(folder, "PICTURES (--folder)")}
    image_trees.check_apart(values["dataset.folder"])
    if labels:
        values |= {"dataset.name": "table", "dataset.table": _found(labels, "LABELS (--labels)")}
    return values | {"extract.input_size_px": None}


def _found(name: str, option: str) -> str:
    path = Path(os.path.abspath(named(name)))  # noqa: PTH100 - a link in it may come to lead elsewhere
    if not path.exists():
        raise UserError(f"{option} must be there. Received: {path}")
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{option} must have a name in UTF-8, as params.yaml has. Rename it: {path}") from error
    return str(path)


def restore(params: Path, undo: Path) -> None:
    """Takes the settings of a training that was killed out of params.yaml, or says that they may be there."""
    if not undo.exists():
        return
    kept = guarded_files.read_json(undo, dict[str, str], f"Delete it, and look at: git diff {params}")
    now = guarded_files.read_text(params, remedy=f"Run: git restore {params}")
    if now == kept["after"]:
        artifacts.write_bytes(params, kept["before"].encode())
        console.say(f"a training was killed here. {params} is as it was before it: give its settings again to go on")
    elif now != kept["before"]:
        console.say(
            f"a training was killed here, and {params} is another since. Look for its settings: git diff {params}"
        )
    undo.unlink()


@contextlib.contextmanager
def settings(params: Path, undo: Path, overrides: Sequence[str], values: Mapping[str, Any]) -> Iterator[None]:
    """Writes settings into params.yaml; takes them out again where the block ends by an error or a signal.

    `undo` is a file that is there as long as the block runs, for `restore`.
    """
    load_params(params)
    before = params.read_bytes()
    after = changed(params, overrides, values)
    try:
        if after != before:
            artifacts.write_json(undo, {"before": before.decode(), "after": after.decode()})
            artifacts.write_bytes(params, after)
        yield
    except BaseException:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if after != before and params.read_bytes() == after:  # else somebody edits it
            artifacts.write_bytes(params, before)
            with contextlib.suppress(OSError):
                console.say("params.yaml is as it was before", err=True)
        raise
    finally:
        undo.unlink(missing_ok=True)


def changed(params: Path, overrides: Sequence[str], values: Mapping[str, Any]) -> bytes:
    """Returns a params.yaml with changed values, written as DVC does; UserError: one breaks a rule.

    `values` are taken as they are. `overrides` are words KEY=VALUE in Hydra's grammar, as `dvc exp run -S` takes them,
    and have the last word.
    """
    from dvc.exceptions import InvalidArgumentError  # type: ignore[import-untyped]
    from dvc.utils.hydra import apply_overrides  # type: ignore[import-untyped]
    from dvc.utils.serialize import modify_yaml  # type: ignore[import-untyped]
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(params, folder))
        if values:
            with modify_yaml(copy) as content:
                for dotted, value in values.items():
                    section, _, key = dotted.partition(".")
                    # Else YAML takes a rare line break in a name for a blank.
                    quoted = isinstance(value, str) and not value.isprintable()
                    content[section][key] = DoubleQuotedScalarString(value) if quoted else value
        try:
            if overrides:
                apply_overrides(copy, overrides)
        except InvalidArgumentError as error:
            reason = " ".join(str(error.__cause__ or error).split())
            rule = "-S must be KEY=VALUE with a key of params.yaml, and one value"
            raise UserError(f"{rule}. Received: {' '.join(overrides)} ({reason})") from error
        try:
            load_params(copy)
        except ParamsError as error:
            raise UserError(str(error).replace(str(copy), str(params))) from error
        return copy.read_bytes()


def dvc(*words: str) -> None:
    """Runs DVC with this Python's programs; stops it, and waits for its stage, where this program is stopped."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    command = [sys.executable, "-m", "dvc", *words]
    # A group of its own, for only so it and its stage are sure to be told once.
    environment = os.environ | {"PATH": path}
    process = subprocess.Popen(command, env=environment, process_group=0, close_fds=False)  # noqa: S603 - no shell
    try:
        status = process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)  # DVC waits for its stage, which SIGTERM would make it leave
        process.wait()
        raise
    if status:
        raise UserError(f"`dvc {' '.join(words)}` failed; the lines above say why")


if __name__ == "__main__":
    console.run(main)
