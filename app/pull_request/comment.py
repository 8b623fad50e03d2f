"""The comment on a pull request, in the Markdown of GitHub and GitLab.

What comes from files stands in code spans, where Markdown, HTML and @names mean nothing; `dvc metrics diff --md` would
pass them on as they are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from app.pull_request import gates
from app.pull_request.gates import Gate
from app.pull_request.revisions import Revision

MARKER = "<!-- decant pr-report -->"  # by which a later run finds the comment to replace
SHOWN_FIRST = ("top1_accuracy", "log_loss")
SECTION_CHARACTERS = 12_000  # GitHub takes comments of up to 65,536 characters
Row = Sequence[str]


@dataclass(frozen=True)
class Report:
    """What the comment says.

    Attributes:
      base, head: what is compared.
      gates: limits that were asked for.
      failures: a sentence for each one that is broken.
      metrics: rows of `dvc metrics diff`: file, key, both values and the change.
      params: rows of `dvc params diff`: file, key and both values.
      plots: files of plots that differ.
      images: those that were drawn, relative to the output folder.
      page: of `dvc plots diff`, relative to the output folder; None without one.
      link: URL at which the output folder can be had, or None.
    """

    base: Revision
    head: Revision
    gates: Sequence[Gate]
    failures: Sequence[str]
    metrics: Sequence[Row]
    params: Sequence[Row]
    plots: Sequence[str]
    images: Sequence[str]
    page: str | None
    link: str | None


def render(report: Report) -> str:
    """Returns the comment."""
    base, head = report.base, report.head
    first = {*SHOWN_FIRST, *(gate.key for gate in report.gates)}
    sections = [
        MARKER,
        f"### Metrics of {code(head.title())} against {code(base.title())}",
        _verdict(report),
        _table(report, "metric", [row for row in report.metrics if row[1] in first]),
        _folded(report, "metric", report.metrics),
        _folded(report, "parameter", report.params),
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


def _verdict(report: Report) -> str:
    if report.failures:
        return "**Gate failed:**\n\n" + _limited([f"- {code(failure, 300)}" for failure in report.failures], "to read")
    if not report.gates:
        return ""
    gone = gates.removed(report.base, report.head)
    note = f" Not compared, for the pipeline no longer makes them: {', '.join(map(code, gone))}." if gone else ""
    return f"**Gate passed:** {', '.join(code(gate) for gate in report.gates)}.{note}"


def _folded(report: Report, noun: str, rows: Sequence[Row]) -> str:
    if not rows:
        return f"No {noun} changed."
    title = f"{len(rows)} {noun}{'s' if len(rows) > 1 else ''} changed"
    return f"<details><summary>{title}</summary>\n\n{_table(report, noun, rows)}\n\n</details>"


def _table(report: Report, noun: str, rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    heading = ("file", noun, "before", "after", "change")[: len(rows[0])]
    top = [f"| {' | '.join(heading)} |", f"|{'---|' * len(heading)}"]
    command = f"dvc {'metrics' if noun == 'metric' else 'params'} diff {report.base.name}"
    return "\n".join([*top, _limited((f"| {' | '.join(map(code, row))} |" for row in rows), f"by {code(command)}")])


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
    pairs = [f"Confusion matrices of both sides: {', '.join(map(code, report.images[:100]))}."]
    return " ".join([f"**{len(report.plots)} plots differ.**", *page, *(pairs if report.images else []), *missing])


def _limited(lines: Iterable[str], elsewhere: str) -> str:
    """Returns as many lines as fit a section, and says what is left out and where it is."""
    lines, shown, size = list(lines), [], 0
    for line in lines:
        size += len(line) + 1
        if size > SECTION_CHARACTERS:
            break
        shown.append(line)
    rest = len(lines) - len(shown)
    return "\n".join(shown) + (f"\n\n{rest} more {elsewhere}." if rest else "")
