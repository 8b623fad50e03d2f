"""Gets the data set that `dataset` names and puts it, verified, into one folder.

Reads params.yaml, the download cache ($DECANT_CACHE, or the user's cache folder) and, where a file is not there yet,
the network. Writes `data/raw`: archives as published (never unpacked), arrays, or a note of the folder that is used.
Costs the download once for all checkouts; afterwards a checksum.
"""

from stages.library.common import artifacts, console, path_options
from stages.library.common.cache_folders import cache_folder
from stages.library.settings import load_params
from stages.library.sources import contract as datasets


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "fetch")
    path_options.add(parser, "params", "out", out="data/raw")
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    dataset = load_params(arguments.params)["dataset"]
    with artifacts.new_folder(arguments.out) as raw:
        what = datasets.lookup(dataset.name).fetch(dataset, raw, cache_folder() / "downloads")
    stopwatch.close("fetch", f"{dataset.name}: {what}", following="tfrecord")


if __name__ == "__main__":
    console.run(main)
