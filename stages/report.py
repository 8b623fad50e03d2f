"""Compares all models: a leaderboard as CSV and Markdown, and one self-contained HTML page with the pictures.

Reads the metrics files and evaluation folders of the models that params.yaml lists, and the data set's dataset.json.
Results on another data set or split are left out, and named. Prints the leaderboard. Costs a second or two a model.
"""

import argparse
from pathlib import Path

from stages.library import artifacts, console, leaderboard, params, report_page


def main() -> None:
    """Runs the stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--records", type=Path, default=Path("data/tfrecord"))
    parser.add_argument("--metrics", type=Path, default=Path("metrics"))
    parser.add_argument("--evaluations", type=Path, default=Path("artifacts/evaluation"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    settings = params.load(arguments.params)
    heads = [*settings["heads"], "finetuned"]
    listed = {"scratch", *(f"{backbone}/{head}" for backbone in settings["backbones"] for head in heads)}
    dataset = arguments.records / "dataset.json"
    results, left_out = leaderboard.collect(
        arguments.metrics, arguments.evaluations, artifacts.sha256_file(dataset), listed
    )
    page = report_page.render(artifacts.read_json(dataset), results, left_out)
    table = leaderboard.as_markdown(results)
    with artifacts.new_folder(arguments.out) as folder:
        artifacts.write_bytes(folder / "leaderboard.csv", leaderboard.as_csv(results).encode())
        artifacts.write_bytes(folder / "leaderboard.md", table.encode())
        artifacts.write_bytes(folder / "index.html", page.encode())
    print(table, *left_out, sep="\n")
    print(f"report: {len(results)} models, {len(left_out)} left out, {arguments.out}; {stopwatch.seconds():.1f} s")


if __name__ == "__main__":
    console.run(main)
