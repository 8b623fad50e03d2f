"""Notes what the files hold that `dataset` names: `folder`, `table` and `archive`.

DVC takes no null for a dep, no link to nothing, no pipe, and no name that is not UTF-8. So this stage runs in each
`dvc repro`, and what reads the files depends on its note. Of what is not on this machine the note stays, as in a clone
that has the outs alone.
"""

import hashlib
from pathlib import Path

from stages.library.common import artifacts, console, downloads, guarded_files
from stages.library.settings import load_params
from stages.library.sources import fingerprints
from stages.library.sources.contract import FILES


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "inputs")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--out", type=Path, default=Path("data/inputs.json"))
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    dataset = load_params(arguments.params)["dataset"]
    noted: dict[str, str] = {}
    if arguments.out.exists():
        noted = guarded_files.read_json(
            arguments.out, dict[str, str], f"Delete it, or run: git restore {arguments.out}"
        )
    named = {key: getattr(dataset, key) for key in FILES.get(dataset.name, ("archive",)) if getattr(dataset, key)}
    found = {}
    for key, value in named.items():
        path = Path(value).expanduser()
        with console.notice(f"reading {path}"):
            try:
                known = (
                    downloads.cache_folder()
                    / "inputs"
                    / hashlib.sha256(str(path.absolute()).encode("utf-8", "replace")).hexdigest()
                )
                found[key] = fingerprints.of(path, known)
            except (OSError, ValueError, RuntimeError):  # `fetch` says what is wrong with it
                if key in noted:
                    found[key] = noted[key]
                    console.say(f"inputs: `dataset.{key}` can't be read here, {path}: taken as it was")
    artifacts.write_json(arguments.out, found)
    said = ", ".join(f"dataset.{key}" for key in found) or "no file of yours"
    console.say(f"inputs: {said}; {stopwatch.seconds():.1f} s. Next: dvc repro fetch")


if __name__ == "__main__":
    console.run(main)
