"""Runs a pretrained network over every picture and caches its pooled features and logits.

Reads the TFRecord shards of all splits and the backbone's weights. Writes a folder of parquet files, one per shard:
`key`, `label`, `bottleneck`, `logits` (float16, before softmax). Costs one forward pass a picture; the only stage
before fine-tuning that runs a pretrained network.
"""

import argparse
from pathlib import Path

from stages.library import artifacts, console, extraction, params
from stages.library.console import UserError


def main() -> None:
    """Runs the stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--backbone", required=True, choices=params.plugin_names(params.PLUGINS["backbones"]))
    parser.add_argument("--records", type=Path, default=Path("data/tfrecord"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    extract: extraction.Params = params.load(arguments.params)["extract"]
    classes = read_classes(arguments.records / "dataset.json")
    with artifacts.new_folder(arguments.out) as folder:
        count, size_px = extraction.extract(arguments.backbone, extract, arguments.records, classes, folder)
    stopwatch.close(f"bottleneck-extract {arguments.backbone}", f"{count:,} images at {size_px} px", count)


def read_classes(path: Path) -> tuple[str, ...]:
    """Returns the class names that the tfrecord stage wrote, in the order of the labels."""
    try:
        return tuple(artifacts.read_json(path)["classes"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} can't be read ({error}). Run: dvc repro tfrecord") from error


if __name__ == "__main__":
    console.run(main)
