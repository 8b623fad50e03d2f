"""The report as one self-contained HTML page: images inside, no script, nothing loaded from any host.

One image is not inside, for times differ from run to run: that which `python -m app.costs` writes beside the report.
The list of all mistakes is a file beside the page, for people who mend labels.
"""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple, get_args

from stages.library.common import console, tables
from stages.library.figures import charts, pareto
from stages.library.figures.pareto import Point
from stages.library.records.dataset_file import Dataset, Split
from stages.library.report import fewshot_results, leaderboard, operating_points, published
from stages.library.report.fewshot_results import FewShot
from stages.library.report.leaderboard import Audit, Result
from stages.library.scoring.selection import SelectionMetric

MEASURED_COSTS = "../costs/costs.png"  # from the report's folder
SHOWN_CLASSES = 20
AUDITED = {"label_issues": "Likely label errors", "near_duplicates": "Near-duplicates", "outliers": "Outliers"}
CSS = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
MISTAKES = "mistakes.csv"  # beside the page
MAP = "map/index.html"  # in a backbone's folder of evaluations


class Section(NamedTuple):
    """A part of the page; body and note are HTML."""

    name: str  # of its address on the page
    title: str
    body: str
    note: str = ""


def render(
    shown: str,
    dataset: Dataset,
    results: Sequence[Result],
    fewshots: Sequence[FewShot],
    audits: Sequence[Audit],
    comparison: Sequence[tuple[str, ...]],
    left_out: Sequence[str],
    selected_by: SelectionMetric,
) -> str:
    """Returns the page with a title: results, best first, and what there is of few-shot results, audits and `compare`.

    What to look at first, mistakes and audits, comes early; what is of a single model is folded, at the end.
    """
    sections = [_leaderboard(results, left_out, selected_by), _mistakes(results[0]), *map(_audit, audits)]
    sections += _operating(results) + _costs(results)
    sections += [_published(comparison)] if comparison else []
    sections += [_fewshot(fewshots, dataset["name"])] if fewshots else []
    sections += [_models(results)]
    links = "".join(f'<li><a href="#{escape(each.name)}">{escape(each.title)}</a></li>' for each in sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(shown)}</title>
<style>{CSS}</style>
</head>
<body>
<header>
<h1>{escape(shown)}</h1>
<p>{escape(facts(dataset))}</p>
</header>
<nav class="contents" aria-label="Contents"><ul>{links}</ul></nav>
<main>{"".join(map(_section, sections))}
</main>
</body>
</html>
"""


def title(name: str, folder: str) -> str:
    """Returns the title of pages about the data set of `dataset`: people's own is called as its folder."""
    own = Path(folder).name if name in ("folder", "table") else ""
    return console.in_a_line(f"Decant: {own if own.strip('.') else name}")


def facts(dataset: Dataset) -> str:
    """Returns two sentences on the data set: classes, images per split, sizes in pixels, what was left out."""
    counts = {split: sum(classes.values()) for split, classes in dataset["counts"].items()}
    splits = ", ".join(f"{counts[split]:,} {split}" for split in get_args(Split))
    ends = (dataset["shape"][side] for side in ("width_px", "height_px"))
    width, height = (f"{low:,}" if low == high else f"{low:,} to {high:,}" for low, high in ends)
    return (
        f"{len(dataset['classes']):,} classes, {console.count(dataset['images'], 'image')} ({splits}), {width} by "
        f"{height} px (width by height). Left out of the source: {dataset['rejected']:,}."
    )


def _leaderboard(results: Sequence[Result], left_out: Iterable[str], selected_by: SelectionMetric) -> Section:
    rows = (leaderboard.cells(result, selected_by) for result in results)
    table = _table(leaderboard.headings(selected_by), rows, [result.name for result in results])
    notes = "".join(f"<li>{escape(sentence)}</li>" for sentence in left_out)
    body = _scroll(table, "Leaderboard") + (f'\n<ul class="soft">{notes}</ul>' if notes else "")
    return Section("leaderboard", "Leaderboard", body, escape(leaderboard.NOTE))


def _mistakes(best: Result) -> Section:
    body = f"""{_picture(f"Most confident mistakes of {best.name}, the best model", best.figures / "mistakes.png")}
<p>All mistakes of all models on the test images, with file names: <a href="{MISTAKES}">{MISTAKES}</a></p>"""
    return Section("mistakes", "Mistakes", body)


def _operating(results: Sequence[Result]) -> list[Section]:
    rows, title = operating_points.rows(results), "When to answer"
    table = _scroll(_table(operating_points.HEADINGS, rows), title)
    return [Section("operating", title, table, operating_points.NOTE)] if rows else []


def _costs(results: Sequence[Result]) -> list[Section]:
    points = []
    for result in results:
        if megabytes := result.metrics.get("size_bytes", 0) / 1e6:
            accuracy, low, high = map(leaderboard.flat(result.metrics).__getitem__, leaderboard.ACCURACY)
            points.append(Point(result.name, accuracy, megabytes, f"{megabytes:.1f} MB", interval=(low, high)))
    if not points:
        return []
    heading = "Accuracy against size; line: no other model is both smaller and better"
    image = pareto.draw(points, "megabytes of all weights that predict, in float32", heading)
    time = f"""<object type="image/png" data="{MEASURED_COSTS}" aria-label="Accuracy against time">Not measured in
this checkout. Times depend on the machine and differ from run to run, so they are no part of the pipeline. To have
them here, run: python -m app.costs</object>"""
    body = f"""{_scroll(_figure("Size", image), "Accuracy against size")}
<p class="soft">Size is that of the files that predict, and of as much of its backbone as a head reads. Vertical lines
are the 95% intervals: models whose lines overlap may well be equally good.</p>
<h3>Time</h3>
{_scroll(time, "Accuracy against time")}"""
    return [Section("costs", "Accuracy against cost", body)]


def _published(comparison: Sequence[tuple[str, ...]]) -> Section:
    note = """"Ours" is the model of the same kind, on the same kind of features; differences are ours less the
published one, in percentage points. A published validation accuracy stands beside our cross-validated one. "In training
mode" means with the batch's statistics and dropout on, as the published network was evaluated."""
    shown = "Published results"
    return Section("published", shown, _scroll(_table(published.HEADINGS, comparison), shown), note)


def _fewshot(fewshots: Sequence[FewShot], dataset: str) -> Section:
    body = ""
    for backbone in dict.fromkeys(few.backbone for few in fewshots):
        own = [few for few in fewshots if few.backbone == backbone]
        image = fewshot_results.chart(own, published.load(dataset))
        heading = f"{backbone}: accuracy by images per class"
        table = _table(fewshot_results.HEADINGS, map(fewshot_results.cells, own))
        body += _scroll(_figure(heading, image) + table, heading)
    note = """The given number of random images of each class trains a head on cached features, all others test it;
mean and standard deviation over random choices, the same for all heads and backbones; n counts test images.
"Background" says whether the classes of clutter take part."""
    return Section("few-shot", "Few images per class", body, note)


def _audit(audit: Audit) -> Section:
    numbers = audit.numbers
    looked = f"{numbers['images']:,} of {numbers['all_images']:,} images"
    shown = "\n".join(_picture(heading, audit.figures / f"{name}.png") for name, heading in AUDITED.items())
    found, pairs = numbers["label_issues"], numbers["near_duplicate_pairs"]
    body = f"""<p>{console.count(found, "likely label error")}, {console.count(pairs, "pair")} of near-duplicates,
{numbers["near_duplicate_pairs_across_splits"]:,} of them across splits, among {looked}. Nothing was changed or left
out. All of them, with their files, stand in artifacts/evaluation/{escape(audit.backbone)}/audit/.</p>
{_map(audit)}{shown}"""
    note = """Label errors by confident learning on probabilities of models that did not see the image; near-duplicates
agree in nearly all pixels when one is laid over the other, cut or mirrored; outliers lie far from all others in the
network's features."""
    return Section(f"audit-{audit.backbone}", f"The data, as {audit.backbone} sees them", body, note)


def _map(audit: Audit) -> str:
    folder = audit.figures.parent
    if not (folder / MAP).is_file():
        return ""
    link = escape(f"../{folder.parent.name}/{audit.backbone}/{MAP}")
    return f'<p><a href="{link}">A map of the images</a>: what these features find alike lies side by side.</p>\n'


def _models(results: Sequence[Result]) -> Section:
    shown = console.progress(results, "report", "models")
    body = "\n".join(_model(result, mistakes=result != results[0]) for result in shown)
    return Section("models", "Each model", body)


def _model(result: Result, mistakes: bool) -> str:
    """Returns what is known of a model, folded, with its own mistakes or without: those of the best stand above."""

    def table(name: str, columns: dict[str, type]) -> list[dict[str, str]]:
        return tables.read_csv(result.figures / f"{name}.csv", columns)

    curve = charts.learning_curve(table("curve", tables.CURVE))
    confusions, classes = table("confusion", tables.CONFUSION), table("per_class", tables.PER_CLASS)
    # The name of its address is inside: a browser that goes there unfolds it.
    return f"""<details><summary>{escape(result.name)}</summary>
<div id="{escape(result.name)}">
{_picture("Most confident mistakes", result.figures / "mistakes.png") if mistakes else ""}
{_picture("Random test images", result.figures / "predictions.png")}
<div class="grid">
{_figure("Recall of each class: how many of its images are recognised", charts.per_class(classes))}
<div><h3>Hardest classes by F1</h3>{_hardest(classes)}</div>
{_figure("Reliability", charts.reliability(table("reliability", tables.RELIABILITY)))}
{_figure("Learning curve (step: epoch, boosting round or log10 of the penalty)", curve)}
<div><h3>Most frequent confusions</h3>{_most_frequent(confusions)}</div>
</div>
{_scroll(_figure("Confusions", charts.confusion(confusions)), "Confusions")}
</div></details>"""


def _hardest(classes: Iterable[dict[str, str]]) -> str:
    hardest = sorted(classes, key=lambda row: (float(row["f1"]), row["class"]))[:SHOWN_CLASSES]
    scores = ("precision", "recall", "f1")
    rows = ((row["class"], *(f"{float(row[score]):.4f}" for score in scores), row["count"]) for row in hardest)
    return _table(("class", "precision", "recall", "F1", "n"), rows)


def _most_frequent(confusions: Iterable[dict[str, str]]) -> str:
    rows = ((row["actual"], row["predicted"], row["count"]) for row in confusions)
    wrong = sorted((row for row in rows if row[0] != row[1]), key=lambda row: (-int(row[2]), *row))
    return _table(("actual", "predicted", "images"), wrong[:10]) if wrong else "<p>None.</p>"


def _section(section: Section) -> str:
    note = f'\n<p class="soft">{section.note}</p>' if section.note else ""
    heading = f"<h2>{escape(section.title)}</h2>"
    return f'\n<section id="{escape(section.name)}">\n{heading}\n{section.body}{note}\n</section>'


def _scroll(content: str, label: str) -> str:
    """Returns what scrolls where it is too wide, by the keyboard, too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{content}</div>'


def _picture(heading: str, path: Path) -> str:
    return _scroll(_figure(heading, path.read_bytes()), heading)


def _figure(heading: str, png: bytes) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<figure><h3>{escape(heading)}</h3><img alt="{escape(heading)}" src="{source}"></figure>'


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]], links: Sequence[str] = ()) -> str:
    """Returns a table; with links, one a row, the first cells lead there, and the first row stands out."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    lines = [[f"<td>{escape(cell)}</td>" for cell in row] for row in rows]
    for line, link in zip(lines, links, strict=False):
        line[0] = f'<td><a href="#{escape(link)}">{line[0][4:-5]}</a></td>'
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    return f'<table class="{"" if links else "plain"}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
