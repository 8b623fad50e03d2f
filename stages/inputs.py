"""Notes what the files hold that `dataset` and `extract.weights` name: images, table, archive and weight files.

DVC takes no null for a dep, no link to nothing, no pipe, and no name that is not UTF-8. So this stage runs in each
`dvc repro`, and what reads the files depends on its notes. Of what is not on this machine the note stays, as in a clone
that has the outs alone.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from stages.library.common import artifacts, console, downloads, guarded_files
from stages.library.common.named_files import is_there, named
from stages.library.settings import load_params
from stages.library.sources import fingerprints
from stages.library.sources.contract import FILES


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "inputs")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--out", type=Path, default=Path("data/inputs.json"))
    parser.add_argument("--weights", type=Path, default=Path("data/weights.json"))
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    params = load_params(arguments.params)
    dataset = params["dataset"]
    files = {key: getattr(dataset, key) for key in FILES.get(dataset.name, ("archive",)) if getattr(dataset, key)}
    noted = [
        *note("dataset", files, arguments.out),
        *note("extract.weights", params["extract"].weights, arguments.weights),
    ]
    console.say(f"inputs: {', '.join(noted) or 'no file of yours'}; {stopwatch.seconds():.1f} s. Next: dvc repro fetch")


def note(section: str, files: Mapping[str, str], out: Path) -> list[str]:
    """Writes key -> hash of each file that is here, or was noted before; returns their dotted keys.

    What is neither may be no file, but published weights; `fetch` and `bottleneck-extract` say what is wrong.
    """
    before: dict[str, str] = {}
    if out.exists():
        before = guarded_files.read_json(out, dict[str, str], f"Delete it, or run: git restore {out}")
    found = {}
    for key, value in files.items():
        path = named(value)
        try:
            if not is_there(path):
                raise FileNotFoundError(path)
            with console.notice(f"reading {path}"):
                place = hashlib.sha256(str(path.absolute()).encode("utf-8", "replace")).hexdigest()
                found[key] = fingerprints.of(path, downloads.cache_folder() / "inputs" / place)
        except (OSError, ValueError, RuntimeError):
            if key in before:
                found[key] = before[key]
                console.say(f"inputs: `{section}.{key}` can't be read here, {path}: taken as it was")
    artifacts.write_json(out, found)
    return [f"{section}.{key}" for key in found]


if __name__ == "__main__":
    console.run(main)
