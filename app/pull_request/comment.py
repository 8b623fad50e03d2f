"""The comment on a pull request, in the Markdown of GitHub and GitLab.

What comes from files stands in code spans, where Markdown, HTML and @names mean nothing; `dvc metrics diff --md` would
pass them on as they are.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.pull_request.revisions import Revision

MARKER = "<!-- decant pr-report -->"  # by which a later run finds the comment to replace
SECTION_CHARACTERS = 12_000  # GitHub takes comments of up to 65,536 characters


def render(base: str, head: str, *sections: str) -> str:
    """Returns the comment on what `head` is against `base`."""
    heading = f"{MARKER}\n\n### Metrics of {code(head)} against {code(base)}"
    return "\n\n".join(filter(None, (heading, *sections))) + "\n"


def verdict(gates: Sequence[object], failures: Sequence[str], gone: Sequence[str]) -> str:
    """Returns what broke the gates, or that nothing did and which files are gone on purpose; "" without gates."""
    if failures:
        return "**Gate failed:**\n\n" + _limited((f"- {code(failure, 300)}" for failure in failures), "to read")
    note = f" Not compared, for the pipeline no longer makes them: {', '.join(map(code, gone))}." if gone else ""
    return f"**Gate passed:** {', '.join(map(code, gates))}.{note}" if gates else ""


def folded(noun: str, rows: Sequence[Sequence[str]], base: str) -> str:
    """Returns a table below its title, or that there is nothing."""
    if not rows:
        return f"No {noun} changed."
    title = f"{len(rows)} {noun}{'s' if len(rows) > 1 else ''} changed"
    return f"<details><summary>{title}</summary>\n\n{table(noun, rows, base)}\n\n</details>"


def table(noun: str, rows: Sequence[Sequence[str]], base: str) -> str:
    """Returns rows of `revisions.differences` as a table; "" where there are none."""
    if not rows:
        return ""
    heading = ("file", noun, "before", "after", "change")[: len(rows[0])]
    command = f"dvc {'metrics' if noun == 'metric' else 'params'} diff {base}"
    lines = (f"| {' | '.join(map(code, row))} |" for row in rows)
    return f"| {' | '.join(heading)} |\n|{'---|' * len(heading)}\n{_limited(lines, f'by {code(command)}')}"


def plots(
    sides: Sequence["Revision"], files: Sequence[str], images: Sequence[str], page: str | None, link: str | None
) -> str:
    """Returns which plots differ, and where their images and the page of `dvc plots diff` are, if there are any."""
    said = [f"**{len(files)} plots differ.**" if files else "No plot changed."]
    if page:
        where = f"the [files of this report]({link})" if link else "the files of this report"
        said.append(f"{code(page)} in {where} overlays both sides.")
    if images:
        said.append(f"Confusion matrices of both sides: {', '.join(map(code, images[:100]))}.")
    missing = {code(side.name): len(side.missing_plots) for side in sides if side.missing_plots}
    why = "are neither in DVC's cache nor in a remote, so they were not compared."
    return " ".join([*said, *(f"{count} plots of {name} {why}" for name, count in missing.items())])


def code(value: Any, limit: int = 90) -> str:
    """Returns a value as a code span that is safe in a cell of a table."""
    text = "".join(character if character.isprintable() else " " for character in str(value))
    text = text.replace("`", "'").replace("|", "\N{BOX DRAWINGS LIGHT VERTICAL}")
    return f"`{text if len(text) <= limit else text[: limit - 1] + '…'}`" if text.strip() else "`''`"


def _limited(lines: Iterable[str], elsewhere: str) -> str:
    """Returns as many lines as fit a section, and says what is left out and where it is."""
    lines = list(lines)
    sizes = itertools.accumulate(len(line) + 1 for line in lines)
    shown = lines[: sum(size <= SECTION_CHARACTERS for size in sizes)]
    rest = len(lines) - len(shown)
    return "\n".join(shown) + (f"\n\n{rest} more {elsewhere}." if rest else "")
