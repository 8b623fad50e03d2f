"""Notes what the files hold that `dataset` and `extract.weights` name, and what defines each of `backbones`.

A backbone may be a row of a table, and DVC hashes whole files: so its stages depend on its note. Nor does DVC take null
for a dep, a link to nothing, a pipe, or a name that is not UTF-8. So this stage runs in each `dvc repro`, and what
reads the files depends on its notes. Of what is not on this machine the note stays, as in a clone that has the outs
alone.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from stages.library.common import artifacts, console, guarded_files, path_options
from stages.library.common.cache_folders import cache_folder
from stages.library.common.named_files import is_there, named
from stages.library.networks import contract
from stages.library.settings import load_params
from stages.library.sources import fingerprints, image_trees
from stages.library.sources.contract import FILES


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "inputs")
    path_options.add(parser, "params", "backbones", "out", out="data/inputs.json")
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    params = load_params(arguments.params)
    dataset, weights = params["dataset"], params["extract"].weights
    if "folder" in FILES.get(dataset.name, ()):
        image_trees.check_apart(dataset.folder)
    files = {key: getattr(dataset, key) for key in FILES.get(dataset.name, ("archive",)) if getattr(dataset, key)}
    noted = note("dataset", files, arguments.out)
    for name in params["backbones"]:
        chosen = {name: weights[name]} if name in weights else {}
        out = arguments.backbones / f"{name}.json"
        noted += note("extract.weights", chosen, out, {"definition": contract.definition(name)})
    for path in arguments.backbones.glob("*.json"):
        if path.stem not in params["backbones"]:
            path.unlink()
    console.say(f"inputs: {', '.join(noted) or 'no file of yours'}; {stopwatch.seconds():.1f} s. Next: dvc repro fetch")


def note(section: str, files: Mapping[str, str], out: Path, known: Mapping[str, str] | None = None) -> list[str]:
    """Writes what is known, and key -> hash of each file that is here or was noted before; returns their dotted keys.

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
            place = hashlib.sha256(str(path.absolute()).encode("utf-8", "replace")).hexdigest()
            found[key] = fingerprints.of(path, cache_folder() / "inputs" / place)
        except (OSError, ValueError, RuntimeError):
            if key in before:
                found[key] = before[key]
                console.say(f"inputs: `{section}.{key}` can't be read here, {path}: taken as it was")
    artifacts.write_json(out, {**(known or {}), **found})
    return [f"{section}.{key}" for key in found]


if __name__ == "__main__":
    console.run(main)
