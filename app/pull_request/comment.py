"""The comment on a pull request, in the Markdown of GitHub and GitLab.

What comes from files stands in code spans, where Markdown, HTML and @names mean nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from app.pull_request import gates
from app.pull_request.gates import Gate
from app.pull_request.pictures import Change
from app.pull_request.revisions import Revision, Values

MARKER = "<!-- decant pr-report -->"  # by which a later run finds the comment to replace
OVERVIEW = {
    "top1_accuracy": "top-1 accuracy",
    "cross_validation.top1_accuracy.mean": "cross-validation",
    "log_loss": "log loss",
    "expected_calibration_error": "calibration error",
}
UNFOLDED_ROWS = 12
SECTION_CHARACTERS = 12_000  # GitHub takes comments of up to 65,536 characters
Row = tuple[str, str, Any, Any]  # file, dotted key, value of the base and of the head; None: not there


@dataclass(frozen=True)
class Report:
    """What the comment says.

    Attributes:
      base, head: what is compared.
      gates: limits that were asked for.
      failures: a sentence for each one that is broken.
      plots: those that differ.
      page: of `dvc plots diff`, relative to the output folder; None without one.
      behind: commits of the base that the head lacks.
      link: URL at which the output folder can be had, or None.
      pictures_url: URL of the output folder for readers of the comment, so that pictures can be shown; or None.
    """

    base: Revision
    head: Revision
    gates: Sequence[Gate]
    failures: Sequence[str]
    plots: Sequence[Change]
    page: str | None
    behind: int
    link: str | None
    pictures_url: str | None


def render(report: Report) -> str:
    """Returns the comment."""
    base, head = report.base, report.head
    sections = [
        MARKER,
        f"### Metrics of {code(head.title())} against {code(base.title())}",
        _verdict(report),
        _behind(report),
        _overview(report),
        _differences("metric", differences(base.metrics, head.metrics), report, with_change=True),
        _differences("parameter", differences(base.params, head.params), report, with_change=False),
        _plots(report),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def failed(base: str, head: str, reason: str) -> str:
    """Returns the comment that replaces an older one where the revisions could not be compared."""
    return f"{MARKER}\n\n### Metrics of {code(head)} against {code(base)}\n\n**Not compared:** {code(reason, 600)}\n"


def code(value: Any, limit: int = 90) -> str:
    """Returns a value as a code span that is safe in a cell of a table."""
    text = "".join(character if character.isprintable() else " " for character in str(value))
    text = text.replace("`", "'").replace("|", "\N{BOX DRAWINGS LIGHT VERTICAL}")
    return f"`{text if len(text) <= limit else text[: limit - 1] + '…'}`" if text.strip() else "`''`"


def differences(old: Values, new: Values) -> list[Row]:
    """Returns the values that differ, by file and key."""
    keys = sorted({(path, key) for side in (old, new) for path, values in side.items() for key in values})
    rows = [(path, key, old.get(path, {}).get(key), new.get(path, {}).get(key)) for path, key in keys]
    return [row for row in rows if row[2] != row[3]]


def model(path: str) -> str:
    """Returns a metrics file as the name of a model: metrics/backbone/head.json is backbone/head."""
    name = PurePosixPath(path).with_suffix("")
    return str(name.relative_to("metrics") if name.parts[0] == "metrics" and len(name.parts) > 1 else name)


def _verdict(report: Report) -> str:
    if report.failures:
        shown = [f"- {code(failure, 300)}" for failure in report.failures[:40]]
        rest = len(report.failures) - len(shown)
        return "\n".join(["**Gate failed:**", "", *shown, *([f"- and {rest} more"] if rest else [])])
    if report.gates:
        gone = gates.removed(report.base, report.head)
        note = f" Not compared, for the pipeline no longer makes them: {', '.join(map(code, gone))}." if gone else ""
        return f"**Gate passed:** {', '.join(code(gate) for gate in report.gates)}.{note}"
    return ""


def _behind(report: Report) -> str:
    if not report.behind:
        return ""
    commits = "a commit" if report.behind == 1 else f"{report.behind} commits"
    return (
        f"{code(report.base.name)} has {commits} that this branch lacks; what they changed shows here in reverse. "
        "Merge them, and compare again."
    )


def _overview(report: Report) -> str:
    """One row for each model with a changed metric, one column for each metric that people look at first."""
    old, new = report.base.metrics, report.head.metrics
    headings = {gate.key: code(gate.key) for gate in report.gates} | OVERVIEW
    known = {key for side in (old, new) for metrics in side.values() for key in metrics}
    columns = {key: heading for key, heading in headings.items() if key in known}
    changed = sorted({path for path, *_ in differences(old, new)})
    if not changed:
        return f"All metrics of all {len(old)} files are the same."
    rows, removed = [], gates.removed(report.base, report.head)
    for path in changed:
        before, after = old.get(path), new.get(path)
        name = code(model(path))
        if after is None:
            name += " (removed)" if path in removed else " **(gone)**"
        elif before is None:
            name += " (new)"
        cells = [_cell(key, before or {}, after or {}) for key in columns]
        if before is None or after is None or any("→" in cell for cell in cells):
            rows.append((name, *cells))
    same = len(set(old) | set(new)) - len(rows)
    left_out = f"Files in which these metrics are the same to 4 decimals: {same}." if same else ""
    if not rows or not columns:
        return left_out if columns else ""
    table = _table(("model", *columns.values()), rows, "dvc metrics diff")
    legend = f"≈ is within the 95% interval, or the standard deviation over the folds, of {code(report.base.name)}."
    return "\n\n".join(filter(None, [table, legend if "≈" in table else "", left_out]))


def _cell(key: str, before: Any, after: Any) -> str:
    old, new = before.get(key), after.get(key)
    if not gates.is_number(old) or not gates.is_number(new):
        if old is None:
            return "-" if new is None else _short(new)
        return f"{_short(old)} → {'gone' if new is None else _short(new)}"
    if _short(old) == _short(new):
        return _short(new)
    return f"{_short(old)} → {_short(new)} ({new - old:+.4f}{_judgement(key, before, old, new)})"


def _judgement(key: str, before: Any, old: float, new: float) -> str:
    """Better or worse, where that is known; ≈ where the base's own interval or deviation is wider than the change."""
    lower = gates.lower_is_better(key)
    if lower is None:
        return ""
    group = key.rpartition(".")[0]
    low, high = (before.get(f"{key}_interval.{side}") for side in ("low", "high"))
    deviation = before.get(f"{group}.std") if key == f"{group}.mean" else None
    if gates.is_number(low) and gates.is_number(high):
        small = low <= new <= high
    else:
        small = gates.is_number(deviation) and abs(new - old) <= deviation
    word = "better" if (new < old) is lower else "worse"
    return f", ≈ {word}" if small else f", {word}" if word == "better" else f", **{word}**"


def _differences(noun: str, rows: Sequence[Row], report: Report, with_change: bool) -> str:
    """The table of `dvc metrics diff` or `dvc params diff`, folded where it is long."""
    command = f"dvc {'metrics' if noun == 'metric' else 'params'} diff {report.base.name}"
    if not rows:
        return f"No {noun} changed."
    cells = []
    for path, key, old, new in rows:
        change = [f"{new - old:+.6g}" if gates.is_number(old) and gates.is_number(new) else "-"] if with_change else []
        values = ["-" if value is None else _number(value) if with_change else code(value) for value in (old, new)]
        cells.append((code(path), code(key), *values, *change))
    heading = ("file", noun, "before", "after", *(["change"] if with_change else []))
    title = f"{len(rows)} {noun}{'s' if len(rows) > 1 else ''} changed"
    table = _table(heading, cells, command)
    if len(rows) <= UNFOLDED_ROWS and not (with_change and report.gates):
        return f"**{title}**\n\n{table}"
    return _folded(title, table)


def _plots(report: Report) -> str:
    missing = [
        f"{len(revision.missing_plots)} plots of {code(revision.name)} are neither in DVC's cache nor in a remote, so "
        "they were not compared."
        for revision in (report.base, report.head)
        if revision.missing_plots
    ]
    if not report.plots:
        return " ".join(["No plot changed.", *missing])
    where = f"the [files of this report]({report.link})" if report.link else "the files of this report"
    page = [f"{code(report.page)} in {where} overlays both sides."] if report.page else []
    pictures = sum(plot.picture is not None for plot in report.plots)
    title = f"**{len(report.plots)} plots differ.** {pictures} are pictures with both sides, in {where}."
    return "\n\n".join([" ".join([title, *page, *missing]), _folded("Plots that differ", _list(report))])


def _list(report: Report) -> str:
    lines = []
    for plot in report.plots:
        shown = code(plot.picture or plot.file, 200)
        if plot.picture and report.pictures_url:
            shown += f"\n\n  ![both sides]({report.pictures_url.rstrip('/')}/{quote(plot.picture)})\n"
        lines.append(f"- {plot.what}: {shown}")
    return _limited(lines, "in the files of this report")


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]], command: str) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    top = [f"| {' | '.join(heading)} |", f"|{'---|' * len(heading)}"]
    return "\n".join([*top, _limited(lines, f"by {code(command)}")])


def _limited(lines: Sequence[str], elsewhere: str) -> str:
    """Returns as many lines as fit a section, and says what is left out and where it is."""
    shown, size = [], 0
    for line in lines:
        size += len(line) + 1
        if size > SECTION_CHARACTERS:
            break
        shown.append(line)
    rest = len(lines) - len(shown)
    return "\n".join(shown) + (f"\n\n{rest} more {elsewhere}." if rest else "")


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _short(value: Any) -> str:
    return f"{value:.4f}" if gates.is_number(value) else code(value)


def _number(value: Any) -> str:
    return f"{value:.6g}" if gates.is_number(value) else code(value)
