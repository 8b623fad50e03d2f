"""Options of stages that are paths: called the same, and described the same, in all of them."""

from pathlib import Path

from stages.library.common.console import Parser

KNOWN = {  # what its value is, its default, and what stands in the help
    "params": ("FILE", "params.yaml", "parameters"),
    "raw": ("FOLDER", "data/raw", "the data set as it came"),
    "records": ("FOLDER", "data/tfrecord", "TFRecord shards"),
    "corrections": ("FILE", "data/corrections.csv", "labels that people have mended"),
    "examples": ("PNG", "data/examples.png", "some images of each class, to write"),
    "backbones": ("FOLDER", "data/backbones", "notes on backbones, to write"),
    "bottlenecks": ("FOLDER", None, "cached features"),
    "tensorboard": ("FOLDER", None, "logs for TensorBoard, to write"),
    "metrics": ("FILE", None, "JSON of the metrics, to write"),
    "figures": ("FOLDER", None, "tables and images, to write"),
    "out": ("PATH", None, "what to write"),
}


def add(parser: Parser, *names: str, out: str | None = None) -> None:
    """Adds options of `KNOWN`, and `--out` with its own default; those without a default must be given."""
    for name in names:
        metavar, default, text = KNOWN[name]
        default = out if name == "out" else default
        given = f"{text} (default: {default})" if default else text
        path = None if default is None else Path(default)
        parser.add_argument(f"--{name}", type=Path, metavar=metavar, default=path, required=path is None, help=given)
