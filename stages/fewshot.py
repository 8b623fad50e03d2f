"""Stages fewshot and fewshot-joined: n random images of each class (shots) train a head, all the rest test it.

An instance for each of `backbones` or `joined`, `fewshot.heads` and `fewshot.shots`. Reads the parquet files of all
splits under --bottlenecks, and dataset.json under --records. Writes a metrics file, means and deviations over the
repeats, and a folder:
  repeats.csv: a row per repeat and background (with or without the classes of `fewshot.background`);
  fewshot.json: backbone, head, shots, data set, and the classes that were too small to take part.
The report draws all of them. Runs no network. Costs, measured on generated features: 2 to 4 s a fit for ridge or
logistic on one core at the size of digits (1,797 x 1,280).
"""

from stages.library import fewshot
from stages.library.common import artifacts, class_weights, console, path_options, plugins, tables
from stages.library.common.console import Stopwatch, progress, run
from stages.library.features import joined
from stages.library.records import dataset_file
from stages.library.records.tfrecord import SPLITS
from stages.library.settings import load_params


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "fewshot")
    path_options.add(parser, "params", "records", "bottlenecks", "metrics", "out")
    names = plugins.plugin_names(plugins.PLUGINS["heads"])
    parser.add_argument("--head", choices=names, required=True, metavar="NAME", help="name of a head")
    parser.add_argument("--shots", type=int, required=True, metavar="N", help="training images of each class")
    args = parser.parse_args()
    stopwatch = Stopwatch()
    sections = load_params(args.params)
    settings: fewshot.Params = sections["fewshot"]
    section = sections[args.head]
    features = joined.load(args.bottlenecks, SPLITS, section.features)
    backbone = features.source.backbone
    everything = fewshot.distinct(features.keys, features.labels, features.groups, features.source.classes)
    images, small = fewshot.large_enough(everything, args.shots)
    if small:
        console.say(
            f"fewshot: {args.shots} and one or a group to test are more images than these have: {', '.join(small)}"
        )
    groups = fewshot.variants(images, settings.background)
    class_weights.check(sections["class_weights"], features.source.classes)
    weighed = features.weights, sections["class_weights"], sections["evaluate"].selection_metric
    fits = fewshot.run(args.head, section, args.shots, features.values, groups, settings, *weighed)
    scores = list(progress(fits, f"few-shot {args.head}", "fits", settings.repeats * len(groups)))
    numbers = fewshot.summarise(scores)
    about = {
        "backbone": backbone,
        "head": args.head,
        "features": section.features,
        "shots": args.shots,
        "repeats": settings.repeats,
        "classes_left_out": small,
        "dataset": {
            "name": dataset_file.read(args.records / "dataset.json")["name"],
            "sha256": artifacts.sha256_file(args.records / "dataset.json"),
        },
    }
    with artifacts.new_folder(args.out) as out:
        rows = ([round(cell, 6) if isinstance(cell, float) else cell for cell in score.values()] for score in scores)
        header = ["head", "shots", *scores[0]]
        tables.write_csv(out / "repeats.csv", header, ([args.head, args.shots, *row] for row in rows))
        artifacts.write_json(out / "fewshot.json", about)
    artifacts.write_json(args.metrics, numbers)
    accuracy, copies = numbers["top1_accuracy"], len(features.keys) - len(everything.keys)
    what = f"{args.head} on {backbone}, {args.shots} images of each class: top-1 {accuracy['mean']:.4f} ± "
    what += f"{accuracy['std']:.4f}, {len(images.keys):,} images, {copies:,} copies left out"
    stopwatch.close("fewshot", what, sum(score["n_test"] for score in scores), following="report")


if __name__ == "__main__":
    run(main)
