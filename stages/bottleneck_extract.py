"""Runs a pretrained network over every image and caches its pooled features and logits.

Reads the TFRecord shards of all splits, the backbone's weights and the feature store (`python -m app.store`), which
it adds to. Writes a folder of parquet files, one per shard: `key`, `label`, `group`, `weight`, `bottleneck` and, unless
the weights have no top, `logits` (float16, before softmax). Costs one forward pass for each image that the store lacks;
killed, it goes on where it was.
"""

from stages.library.common import artifacts, console, path_options, plugins
from stages.library.extraction import extraction
from stages.library.features import cache
from stages.library.records import dataset_file
from stages.library.settings import load_params


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "bottleneck_extract")
    path_options.add(parser, "params", "records", "out")
    names = plugins.plugin_names(plugins.PLUGINS["backbones"])
    parser.add_argument("--backbone", required=True, choices=names, metavar="NAME", help="pretrained network")
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    params = load_params(arguments.params)
    extract, few = params["extract"], params["fewshot"]
    heads = {*params["heads"], *(few.heads if few.shots else ())}
    needing = [head for head in sorted(heads) if "logits" in cache.COLUMNS[params[head].features]]
    dataset = dataset_file.read(arguments.records / "dataset.json")
    with artifacts.new_folder(arguments.out) as folder:
        given = arguments.backbone, extract, arguments.records, dataset, folder
        done = extraction.extract(*given, [f"`{head}.features: {params[head].features}`" for head in needing])
    what = f"{done.images:,} images at {done.size_px} px, {done.computed:,} computed"
    stopwatch.close(f"bottleneck-extract {arguments.backbone}", what, done.images, following="train-heads")


if __name__ == "__main__":
    console.run(main)
