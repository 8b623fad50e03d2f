"""Stage fewshot: n random pictures of each class train a head on one backbone's cached features, all the rest test it.

Reads the parquet files of all splits under --bottlenecks, and dataset.json under --records. Writes a metrics file, the
means and deviations over the draws as nested numbers, and a folder:
  draws.csv: a row per head, size, draw and background (with or without the classes of `fewshot.background`);
  summary.csv: mean and sample standard deviation over the draws;
  learning_curve.png: accuracy against pictures of each class, beside published results on the same data set;
  fewshot.json: backbone and data set.
Sizes that would leave a class without a test picture are left out, and named. Runs no network.
Costs, measured on generated features: 2 to 4 s a fit for ridge or logistic on one core at the size of digits (1,797 x
1,280); at 257 classes and 30,607 x 2,048, 40 fits of ridge took 8, of softmax 17 and of logistic 39 minutes on two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from stages.library import artifacts, bottlenecks, console, dataset_file, fewshot, params, published, tables
from stages.library.console import Stopwatch, progress, run

SPLITS = "train", "validation", "test"


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "fewshot")
    parser.add_argument("--params", type=Path, required=True)
    parser.add_argument(
        "--backbone", choices=params.plugin_names(params.PLUGINS["backbones"]), required=True, metavar="NAME"
    )
    parser.add_argument("--bottlenecks", type=Path, required=True)
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    stopwatch = Stopwatch()
    sections = params.load(args.params)
    settings: fewshot.Params = sections["fewshot"]
    head_params = {name: sections[name] for name in settings.heads}
    kinds = {section.features for section in head_params.values()}
    features = {kind: bottlenecks.load(args.bottlenecks, SPLITS, kind) for kind in sorted(kinds)}
    one = next(iter(features.values()))  # keys and labels are the same for all kinds
    pictures = fewshot.distinct(one.keys, one.labels, one.source.classes)
    sizes = fewshot.possible_sizes(pictures, settings.train_per_class)
    if left_out := sorted(set(settings.train_per_class) - set(sizes)):
        counts = np.bincount(pictures.labels, minlength=len(pictures.classes))
        smallest = f"{pictures.classes[counts.argmin()]!r} has {counts.min()} pictures"
        console.say(
            f"fewshot: {left_out} training pictures of each class are left out, for {smallest}, and one must test"
        )
    groups = fewshot.variants(pictures, settings.background)

    values = {kind: loaded.values for kind, loaded in features.items()}
    total = len(settings.heads) * len(sizes) * settings.draws * len(groups)
    fits = fewshot.run(values, groups, sizes, settings, head_params)
    scores = list(progress(fits, f"few-shot on {args.backbone}", "fits", total))
    summary = fewshot.summarise(scores)
    dataset = {
        "name": dataset_file.read(args.records / "dataset.json")["name"],
        "sha256": artifacts.sha256_file(args.records / "dataset.json"),
    }
    with artifacts.new_folder(args.out) as out:
        draws = (_rounded(asdict(score)) for score in scores)
        tables.write_csv(out / "draws.csv", fewshot.DRAWS, ([row[name] for name in fewshot.DRAWS] for row in draws))
        means = ([row[name] for name in fewshot.SUMMARY] for row in summary)
        tables.write_csv(out / "summary.csv", fewshot.SUMMARY, means)
        artifacts.write_bytes(out / "learning_curve.png", _picture(summary, dataset["name"]))
        artifacts.write_json(out / "fewshot.json", {"backbone": args.backbone, "dataset": dataset})
    artifacts.write_json(args.metrics, fewshot.as_metrics(summary))
    for row in summary:
        mean, std = row["top1_accuracy_mean"], row["top1_accuracy_std"]
        variant = "" if row["background"] == "with" else ", without background"
        console.say(
            f"{row['head']}, {row['train_per_class']} pictures of each class{variant}: top-1 {mean:.4f} ± {std:.4f}"
        )
    copies = len(one.keys) - len(pictures.keys)
    what = f"{args.backbone}, {len(pictures.keys):,} pictures, {copies:,} copies left out, {len(scores)} fits"
    stopwatch.close("fewshot", what, sum(score.n_test for score in scores), following="report")


def _picture(summary: Sequence[Mapping[str, Any]], dataset: str) -> bytes:
    from stages.library import plots

    return plots.few_shot(summary, [asdict(row) for row in published.load(dataset) if row.train_per_class])


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}


if __name__ == "__main__":
    run(main)
