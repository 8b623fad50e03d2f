"""Compares all models: a leaderboard as CSV and Markdown, a page of HTML with the images, and all mistakes as CSV.

Reads the metrics files and evaluation folders of the models and few-shot runs that params.yaml lists, and the data
set's dataset.json. Results on another data set or split are left out, and named. Where results on the data set are
published, published.md sets ours beside them. Prints the tables. Costs a second or two a model.
"""

from itertools import product
from pathlib import Path

from stages.library.common import artifacts, console, path_options
from stages.library.records import dataset_file
from stages.library.report import fewshot_results, leaderboard, published
from stages.library.report import page as report_page
from stages.library.settings import load_params


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "report")
    path_options.add(parser, "params", "records", "out")
    parser.add_argument("--metrics", type=Path, default=Path("metrics"), metavar="FOLDER", help="of all models")
    measured = Path("artifacts/evaluation")
    parser.add_argument("--evaluations", type=Path, default=measured, metavar="FOLDER", help="of all models")
    parser.add_argument("--few-shot", type=Path, required=True, metavar="FILE", help="CSV of each repeat, to write")
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    settings = load_params(arguments.params)
    dataset = arguments.records / "dataset.json"
    on = arguments.evaluations, artifacts.sha256_file(dataset)
    backbones, heads, few = settings["backbones"], settings["heads"], settings["fewshot"]
    selected_by = settings["evaluate"].selection_metric
    listed = leaderboard.listed(heads, backbones, settings["joined"], settings["combine"].models)
    results, left_out = leaderboard.collect(arguments.metrics, *on, listed, selected_by)
    runs = product([*backbones, *settings["joined"]], few.heads, few.shots)
    fewshots, fewshots_left_out = fewshot_results.collect(arguments.metrics, *on, runs)
    audits, audits_left_out = leaderboard.collect_audits(*on, backbones)
    left_out += fewshots_left_out + audits_left_out
    about = dataset_file.read(dataset)
    features = {head: settings[head].features for head in heads}
    ours = [*leaderboard.measured(results, features), *fewshot_results.measured(fewshots)]
    comparison = published.compare(published.load(about["name"]), ours)
    rows = [leaderboard.cells(result, selected_by) for result in results]
    tables = {"leaderboard": leaderboard.as_markdown(leaderboard.headings(selected_by), rows)}
    if comparison:
        tables["published"] = leaderboard.as_markdown(published.HEADINGS, comparison)
    title = report_page.title(about["name"], settings["dataset"].folder)
    page = report_page.render(title, about, results, fewshots, audits, comparison, left_out, selected_by)
    with artifacts.new_folder(arguments.out) as folder:
        artifacts.write_bytes(folder / "leaderboard.csv", leaderboard.as_csv(results).encode())
        for name, table in tables.items():
            artifacts.write_bytes(folder / f"{name}.md", table.encode())
        artifacts.write_bytes(folder / "index.html", page.encode())
        found = leaderboard.mistakes_as_csv(results, about["classes"])
        artifacts.write_bytes(folder / report_page.MISTAKES, found.encode())
    artifacts.write_bytes(arguments.few_shot, fewshot_results.as_csv(fewshots).encode())
    console.say(*"\n".join(tables.values()).split("\n"), *left_out)
    console.say(
        f"report: {console.count(len(results), 'model')}, {len(left_out)} left out, {arguments.out}; "
        f"{stopwatch.seconds():.1f} s",
        f"Next: open {arguments.out / 'index.html'} in a browser, or try a model: python -m app.predict IMAGE",
    )


if __name__ == "__main__":
    console.run(main)
