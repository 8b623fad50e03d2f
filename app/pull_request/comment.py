"""The comment on a pull request, in the Markdown of GitHub and GitLab.

What comes from files stands in code spans, where Markdown, HTML and @names mean nothing; `dvc metrics diff --md` would
pass them on as they are.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from app.pull_request.gates import Gate
from app.pull_request.revisions import Revision

MARKER = "<!-- decant pr-report -->"  # by which a later run finds the comment to replace
SHOWN_FIRST = {"top1_accuracy", "log_loss"}
SECTION_CHARACTERS = 12_000  # GitHub takes comments of up to 65,536 characters
Rows = Sequence[Sequence[str]]


def render(
    base: Revision, head: Revision, verdict: str, gates: Sequence[Gate], metrics: Rows, params: Rows, plots: str
) -> str:
    """Returns the comment.

    Args:
      base: what is compared with.
      head: what is compared.
      verdict: of the gates, as `verdict` returns it.
      gates: whose metrics are shown first.
      metrics: rows of `dvc metrics diff`: file, key, both values and the change.
      params: rows of `dvc params diff`: file, key and both values.
      plots: what differs, as `plots` returns it.
    """
    first = SHOWN_FIRST | {gate.key for gate in gates}
    sections = [
        _heading(base.title, head.title),
        verdict,
        _table("metric", [row for row in metrics if row[1] in first], base),
        _folded("metric", metrics, base),
        _folded("parameter", params, base),
        plots,
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def failed(base: str, head: str, reason: str) -> str:
    """Returns the comment that replaces an older one where the revisions could not be compared."""
    return f"{_heading(base, head)}\n\n**Not compared:** {code(reason, 600)}\n"


def verdict(gates: Sequence[Gate], failures: Sequence[str], gone: Sequence[str]) -> str:
    """Returns what broke the gates, or that nothing did; "" without gates.

    Args:
      gates: limits that were asked for.
      failures: a sentence for each one that is broken.
      gone: metrics files that were given up on purpose.
    """
    if failures:
        return "**Gate failed:**\n\n" + _limited((f"- {code(failure, 300)}" for failure in failures), "to read")
    note = f" Not compared, for the pipeline no longer makes them: {', '.join(map(code, gone))}." if gone else ""
    return f"**Gate passed:** {', '.join(map(code, gates))}.{note}" if gates else ""


def plots(
    sides: Sequence[Revision], files: Sequence[str], images: Sequence[str], page: str | None, link: str | None
) -> str:
    """Returns which plots differ and where they are.

    Args:
      sides: base and head.
      files: plots that differ.
      images: those that were drawn, relative to the output folder.
      page: of `dvc plots diff`, relative to the output folder; None without one.
      link: URL at which the output folder can be had, or None.
    """
    said = [f"**{len(files)} plots differ.**" if files else "No plot changed."]
    if page:
        where = f"the [files of this report]({link})" if link else "the files of this report"
        said.append(f"{code(page)} in {where} overlays both sides.")
    if images:
        said.append(f"Confusion matrices of both sides: {', '.join(map(code, images[:100]))}.")
    said += [
        f"{len(side.missing_plots)} plots of {code(side.name)} are neither in DVC's cache nor in a remote, so they "
        "were not compared."
        for side in sides
        if side.missing_plots
    ]
    return " ".join(said)


def code(value: Any, limit: int = 90) -> str:
    """Returns a value as a code span that is safe in a cell of a table."""
    text = "".join(character if character.isprintable() else " " for character in str(value))
    text = text.replace("`", "'").replace("|", "\N{BOX DRAWINGS LIGHT VERTICAL}")
    return f"`{text if len(text) <= limit else text[: limit - 1] + '…'}`" if text.strip() else "`''`"


def _heading(base: str, head: str) -> str:
    return f"{MARKER}\n\n### Metrics of {code(head)} against {code(base)}"


def _folded(noun: str, rows: Rows, base: Revision) -> str:
    if not rows:
        return f"No {noun} changed."
    title = f"{len(rows)} {noun}{'s' if len(rows) > 1 else ''} changed"
    return f"<details><summary>{title}</summary>\n\n{_table(noun, rows, base)}\n\n</details>"


def _table(noun: str, rows: Rows, base: Revision) -> str:
    if not rows:
        return ""
    heading = ("file", noun, "before", "after", "change")[: len(rows[0])]
    command = f"dvc {'metrics' if noun == 'metric' else 'params'} diff {base.name}"
    lines = (f"| {' | '.join(map(code, row))} |" for row in rows)
    return f"| {' | '.join(heading)} |\n|{'---|' * len(heading)}\n{_limited(lines, f'by {code(command)}')}"


def _limited(lines: Iterable[str], elsewhere: str) -> str:
    """Returns as many lines as fit a section, and says what is left out and where it is."""
    lines = list(lines)
    sizes = itertools.accumulate(len(line) + 1 for line in lines)
    shown = lines[: sum(size <= SECTION_CHARACTERS for size in sizes)]
    rest = len(lines) - len(shown)
    return "\n".join(shown) + (f"\n\n{rest} more {elsewhere}." if rest else "")
