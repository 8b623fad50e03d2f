"""Runs a pretrained network over every picture and caches its pooled features and logits.

Reads the TFRecord shards of all splits, the backbone's weights and the feature store (`python -m app.store`), which
it adds to. Writes a folder of parquet files, one per shard: `key`, `label`, `bottleneck`, `logits` (float16, before
softmax). Costs one forward pass for each picture that the store lacks; killed, it goes on where it was.
"""

from pathlib import Path
from typing import Any

from stages.library import artifacts, console, extraction, params
from stages.library.console import UserError


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "bottleneck_extract")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument(
        "--backbone", required=True, choices=params.plugin_names(params.PLUGINS["backbones"]), metavar="NAME"
    )
    parser.add_argument("--records", type=Path, default=Path("data/tfrecord"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    extract: extraction.Params = params.load(arguments.params)["extract"]
    dataset = read_dataset(arguments.records / "dataset.json")
    with artifacts.new_folder(arguments.out) as folder:
        done = extraction.extract(arguments.backbone, extract, arguments.records, dataset, folder)
    what = f"{done.images:,} images at {done.size_px} px, {done.computed:,} computed"
    stopwatch.close(f"bottleneck-extract {arguments.backbone}", what, done.images, following="train-heads")


def read_dataset(path: Path) -> dict[str, Any]:
    """Returns what the tfrecord stage wrote: "name", "classes" in the order of the labels, and more."""
    try:
        content: dict[str, Any] = artifacts.read_json(path)
        return content | {"name": str(content["name"]), "classes": list(content["classes"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} can't be read ({error}). Run: dvc repro tfrecord") from error


if __name__ == "__main__":
    console.run(main)
