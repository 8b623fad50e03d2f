"""The report as one self-contained HTML page: images inside, no script, nothing loaded from any host.

One image is not inside, for times differ from run to run: that which `python -m app.costs` writes beside the report.
"""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import get_args

from stages.library.common import console, tables
from stages.library.figures import charts, pareto
from stages.library.figures.pareto import Point
from stages.library.records.dataset_file import Dataset, Split
from stages.library.report import fewshot_results, leaderboard, published
from stages.library.report.fewshot_results import FewShot
from stages.library.report.leaderboard import Audit, Result
from stages.library.scoring.selection import SelectionMetric

MEASURED_COSTS = "../costs/costs.png"  # from the report's folder
SHOWN_CLASSES = 20
AUDITED = {"label_issues": "Likely label errors", "near_duplicates": "Near-duplicates", "outliers": "Outliers"}
CSS = """
:root { color-scheme: light; --ink: #1f2933; --soft: #5b6770; --line: #d9dee3; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); margin: 0 auto; padding: 1rem; max-width: 82rem; }
h1 { font-size: 1.6rem; margin: .5rem 0; }
h2 { margin: 3rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1rem 0 .3rem; } p, li { max-width: 45rem; } .soft { color: var(--soft); }
.scroll { overflow-x: auto; } .grid { display: flex; flex-wrap: wrap; gap: 0 2rem; align-items: flex-start; }
.grid > figure, .grid > div { max-width: 100%; } figure { margin: 0; } img { max-width: 100%; height: auto; }
.scroll img { max-width: none; } .scroll table { font-size: .93rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
tbody tr:first-child td { font-weight: 600; } .plain tbody tr:first-child td { font-weight: inherit; }
"""


def render(
    dataset: Dataset,
    results: Sequence[Result],
    fewshots: Sequence[FewShot],
    audits: Sequence[Audit],
    comparison: Sequence[tuple[str, ...]],
    left_out: Sequence[str],
    selected_by: SelectionMetric,
) -> str:
    """Returns the page: results, best first, and what there is of few-shot results, audits and `published.compare`."""
    title = f"Decant: {dataset['name']}"
    rows = (leaderboard.cells(result, selected_by) for result in results)
    table = _table(leaderboard.headings(selected_by), rows, [result.name for result in results])
    notes = "".join(f"<li>{escape(sentence)}</li>" for sentence in left_out)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{CSS}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p>{escape(facts(dataset))}</p>
{_scroll(table)}
<p class="soft">{escape(leaderboard.NOTE)}</p>
<ul class="soft">{notes}</ul>
{_costs(results)}
{_published(comparison) if comparison else ""}
{_fewshot(fewshots, dataset["name"]) if fewshots else ""}
{"".join(map(_model, console.progress(results, "report", "models")))}
{"".join(map(_audit, audits))}
</body>
</html>
"""


def facts(dataset: Dataset) -> str:
    """Returns two sentences on the data set: classes, images per split, sizes in pixels, what was left out."""
    counts = {split: sum(classes.values()) for split, classes in dataset["counts"].items()}
    splits = ", ".join(f"{counts[split]:,} {split}" for split in get_args(Split))
    ends = (dataset["shape"][side] for side in ("width_px", "height_px"))
    width, height = (f"{low:,}" if low == high else f"{low:,} to {high:,}" for low, high in ends)
    return (
        f"{len(dataset['classes']):,} classes, {dataset['images']:,} images ({splits}), {width} by {height} px "
        f"(width by height). {dataset['rejected']:,} entries of the source were left out."
    )


def _costs(results: Sequence[Result]) -> str:
    points = []
    for result in results:
        if megabytes := result.metrics.get("size_bytes", 0) / 1e6:
            accuracy, low, high = map(leaderboard.flat(result.metrics).__getitem__, leaderboard.ACCURACY)
            points.append(Point(result.name, accuracy, megabytes, f"{megabytes:.1f} MB", interval=(low, high)))
    if not points:
        return ""
    title = "Accuracy against size; line: no other model is both smaller and better"
    image = pareto.draw(points, "megabytes of all weights that predict, in float32", title)
    body = f"""{_scroll(_figure("Size", image))}
<p class="soft">Size is that of the files that predict, and of as much of its backbone as a head reads. Vertical lines
are the 95% intervals: models whose lines overlap may well be equally good.</p>
<h3>Time</h3>
<div class="scroll"><object type="image/png" data="{MEASURED_COSTS}" aria-label="Accuracy against time">Not measured in
this checkout. Times depend on the machine and differ from run to run, so they are no part of the pipeline. To have
them here, run: python -m app.costs</object></div>"""
    return _section("costs", "Accuracy against cost", body)


def _published(comparison: Sequence[tuple[str, ...]]) -> str:
    note = """"Ours" is the model of the same kind, on the same kind of features; differences are ours less the
published one, in percentage points. A published validation accuracy stands beside our cross-validated one. "In training
mode" means with the batch's statistics and dropout on, as the published network was evaluated."""
    return _section("published", "Published results", _scroll(_table(published.HEADINGS, comparison)), note)


def _fewshot(fewshots: Sequence[FewShot], dataset: str) -> str:
    body = ""
    for backbone in dict.fromkeys(few.backbone for few in fewshots):
        own = [few for few in fewshots if few.backbone == backbone]
        image = fewshot_results.chart(own, published.load(dataset))
        curve = _figure(f"{backbone}: accuracy by images per class", image)
        body += _scroll(curve + _table(fewshot_results.HEADINGS, map(fewshot_results.cells, own)))
    note = """The given number of random images of each class trains a head on cached features, all others test it;
mean and standard deviation over random choices, the same for all heads and backbones; n counts test images.
"Background" says whether the classes of clutter take part."""
    return _section("few-shot", "Few images per class", body, note)


def _audit(audit: Audit) -> str:
    numbers = audit.numbers
    looked = f"{numbers['images']:,} of {numbers['all_images']:,} images"
    shown = (_figure(title, (audit.figures / f"{name}.png").read_bytes()) for name, title in AUDITED.items())
    found, pairs = numbers["label_issues"], numbers["near_duplicate_pairs"]
    body = f"""<p>{found:,} likely label errors, {pairs:,} pairs of near-duplicates,
{numbers["near_duplicate_pairs_across_splits"]:,} of them across splits, among {looked}. Nothing was changed or left
out. All of them, with their files, stand in artifacts/evaluation/{escape(audit.backbone)}/audit/.</p>
{"".join(map(_scroll, shown))}"""
    note = """Label errors by confident learning on probabilities of models that did not see the image; near-duplicates
agree in nearly all pixels when one is laid over the other, cut or mirrored; outliers lie far from all others in the
network's features."""
    return _section(f"audit-{audit.backbone}", f"The data, as {audit.backbone} sees them", body, note)


def _model(result: Result) -> str:
    def table(name: str, columns: dict[str, type]) -> list[dict[str, str]]:
        return tables.read_csv(result.figures / f"{name}.csv", columns)

    title = f"{result.model} on {result.backbone}" if result.backbone else result.model
    predictions, mistakes = ((result.figures / f"{name}.png").read_bytes() for name in ("predictions", "mistakes"))
    curve = charts.learning_curve(table("curve", tables.CURVE))
    confusions, classes = table("confusion", tables.CONFUSION), table("per_class", tables.PER_CLASS)
    body = f"""{_scroll(_figure("Random test images", predictions))}
{_scroll(_figure("Most confident mistakes", mistakes))}
<div class="grid">
{_figure("Recall of each class: how many of its images are recognised", charts.per_class(classes))}
<div><h3>Hardest classes by F1</h3>{_hardest(classes)}</div>
{_figure("Reliability", charts.reliability(table("reliability", tables.RELIABILITY)))}
{_figure("Learning curve (step: epoch, boosting round or log10 of the penalty)", curve)}
<div><h3>Most frequent confusions</h3>{_most_frequent(confusions)}</div>
</div>
{_scroll(_figure("Confusions", charts.confusion(confusions)))}"""
    return _section(result.name, title, body)


def _hardest(classes: Iterable[dict[str, str]]) -> str:
    hardest = sorted(classes, key=lambda row: (float(row["f1"]), row["class"]))[:SHOWN_CLASSES]
    scores = ("precision", "recall", "f1")
    rows = ((row["class"], *(f"{float(row[score]):.4f}" for score in scores), row["count"]) for row in hardest)
    return _table(("class", "precision", "recall", "F1", "n"), rows)


def _most_frequent(confusions: Iterable[dict[str, str]]) -> str:
    rows = ((row["actual"], row["predicted"], row["count"]) for row in confusions)
    wrong = sorted((row for row in rows if row[0] != row[1]), key=lambda row: (-int(row[2]), *row))
    return _table(("actual", "predicted", "images"), wrong[:10]) if wrong else "<p>None.</p>"


def _section(name: str, title: str, body: str, note: str = "") -> str:
    """Returns a section of the page; body and note are HTML."""
    soft = f'\n<p class="soft">{note}</p>' if note else ""
    return f'\n<section id="{escape(name)}">\n<h2>{escape(title)}</h2>\n{body}{soft}\n</section>'


def _scroll(content: str) -> str:
    return f'<div class="scroll">{content}</div>'


def _figure(title: str, png: bytes) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<figure><h3>{escape(title)}</h3><img alt="{escape(title)}" src="{source}"></figure>'


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]], links: Sequence[str] = ()) -> str:
    """Returns a table; with links, one a row, the first cells lead there, and the first row stands out."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    lines = [[f"<td>{escape(cell)}</td>" for cell in row] for row in rows]
    for line, link in zip(lines, links, strict=False):
        line[0] = f'<td><a href="#{escape(link)}">{line[0][4:-5]}</a></td>'
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    return f'<table class="{"" if links else "plain"}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
