"""What the feature store saves: a warm run, 1% new images and a resumed run, as fractions of the cold run.

Every run is the stage bottleneck-extract in a process of its own, start-up included; the time of a run over a few
images says what start-up is. "other split" has the same images in other shards, as another `split.seed` or a second
checkout makes them. The killed run gets SIGKILL when KILLED_AFTER of the cold run's time after start-up are over, and
loses what was not yet in the store; its row is the run after that. Rounds alternate.
Run: python -m benchmarks.feature_store [--backbone inception_v3 --size 299 --images 1000] [--rounds 5]
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import pandas as pd

from benchmarks import generated
from benchmarks.extraction import BACKBONES, FEW, extract_section
from benchmarks.shared import parser, records, run, stage, write_params

KILLED_AFTER = 0.9
SMALL = ((160, 120), (120, 160))


def main() -> None:
    """Prints the table."""
    options = parser("feature_store", __doc__)
    options.add_argument(
        "--backbone", default="inception_v3", choices=BACKBONES, metavar="NAME", help="pretrained network"
    )
    options.add_argument("--size", type=int, default=299, help="side of the input in pixels")
    options.add_argument("--images", type=int, default=1000, help="generated images")
    options.add_argument("--rounds", type=int, default=5, help="in which all ways alternate")
    options.add_argument("--batch-size", type=int, help="`extract.batch_size`")
    options.add_argument(
        "--precision", default="float32", choices=["float32", "float16"], metavar="TYPE", help="or float16"
    )
    options.add_argument(
        "--runtime", default="tensorflow", choices=["tensorflow", "openvino"], metavar="NAME", help="or openvino"
    )
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), arguments)
        found = pd.DataFrame([one_round(Path(name), arguments) for _ in range(arguments.rounds)])
    shares = found.div(found["cold"], axis="index")
    columns = {"seconds": found, "of cold": shares, "less start-up": shares.sub(shares["start-up"], axis="index")}
    table = pd.DataFrame({title: values.median() for title, values in columns.items()})
    print(f"{arguments.images:,} images, {arguments.backbone} at {arguments.size} px, {arguments.rounds} rounds")
    print(table.assign(**{"times faster": 1 / table["of cold"]}).round(3).to_string())


def prepare(work: Path, arguments: argparse.Namespace) -> None:
    """Makes TFRecords: all images, the same in another split, all and 1% more, and a few."""
    count = arguments.images
    generated.write_photos(work / "images", count, sizes=SMALL)
    shutil.copytree(work / "images", work / "more-images")
    generated.write_photos(work / "more-images", count // 100, seed=1, sizes=SMALL, first=count)
    generated.write_photos(work / "few-images", FEW, seed=2, sizes=SMALL)
    extract = extract_section(work, arguments) | {"runtime": arguments.runtime}
    for name, images, seed in (("all", "", 0), ("other", "", 1), ("more", "more-", 0), ("few", "few-", 0)):
        dataset = {"name": "folder", "folder": str(work / f"{images}images")}
        changes = {"dataset": dataset, "split": {"seed": seed}, "extract": extract}
        records(write_params(work / f"{name}.yaml", changes), work / f"{name}-raw", work / name)


def one_round(work: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Returns the seconds of each kind of run, once."""
    for cache in ("cache", "killed"):
        shutil.rmtree(work / cache, ignore_errors=True)

    def extract(shards: str, cache: str = "cache", kill_after: float | None = None) -> float:
        options = {"params": work / f"{shards}.yaml", "records": work / shards, "out": work / "out"}
        return run(stage("bottleneck_extract", work / cache, backbone=arguments.backbone, **options), kill_after)

    kinds = {"start-up": "few", "cold": "all", "other split": "other", "1% new": "more"}
    found = {kind: extract(shards) for kind, shards in kinds.items()}
    extract("all", "killed", found["start-up"] + KILLED_AFTER * (found["cold"] - found["start-up"]))
    found["killed"] = extract("all", "killed")
    print(", ".join(f"{kind} {value:.1f} s" for kind, value in found.items()), file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
