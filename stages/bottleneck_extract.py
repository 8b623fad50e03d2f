"""Runs a pretrained network over every image and caches its pooled features and logits.

Reads the TFRecord shards of all splits, the backbone's weights and the feature store (`python -m app.store`), which
it adds to. Writes a folder of parquet files, one per shard: `key`, `label`, `group`, `weight`, `bottleneck`, `logits`
(float16, before softmax). Costs one forward pass for each image that the store lacks; killed, it goes on where it was.
"""

from pathlib import Path

from stages.library.common import artifacts, console, plugins
from stages.library.extraction import extraction
from stages.library.records import dataset_file
from stages.library.settings import load_params


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "bottleneck_extract")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    names = plugins.plugin_names(plugins.PLUGINS["backbones"])
    parser.add_argument("--backbone", required=True, choices=names, metavar="NAME")
    parser.add_argument("--records", type=Path, default=Path("data/tfrecord"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    extract: extraction.Params = load_params(arguments.params)["extract"]
    dataset = dataset_file.read(arguments.records / "dataset.json")
    with artifacts.new_folder(arguments.out) as folder:
        done = extraction.extract(arguments.backbone, extract, arguments.records, dataset, folder)
    what = f"{done.images:,} images at {done.size_px} px, {done.computed:,} computed"
    stopwatch.close(f"bottleneck-extract {arguments.backbone}", what, done.images, following="train-heads")


if __name__ == "__main__":
    console.run(main)
