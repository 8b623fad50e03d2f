"""Lists experiments in a table that fits a terminal.

It has a metric of each model, and what each experiment changed in params.yaml.
`dvc exp show` has a column for each metric of each model, some 80 of them.
Models in which the metric is the same everywhere are left out.

example: python -m app.experiments
         python -m app.experiments --metric log_loss --all
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from app.spinner import spinner
from stages.library import console
from stages.library.console import UserError

WORKSPACE = "workspace"
METRIC = "cross_validation.top1_accuracy.mean"


@dataclass(frozen=True)
class Row:
    """A revision: the workspace, a commit, or an experiment on it.

    Attributes:
      name: of the experiment, or of the revision.
      baseline: whether it is no experiment.
      state: "" where it has run, else what DVC says of it, such as "Queued".
      values: model -> the metric.
      params: dotted key -> value.
    """

    name: str
    baseline: bool
    state: str
    values: Mapping[str, float]
    params: Mapping[str, Any]


def main() -> None:
    """Runs the program."""
    parser = console.Parser(
        prog="python -m app.experiments", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--metric", default=METRIC, metavar="KEY", help=f"default: {METRIC}")
    parser.add_argument("--all", action="store_true", help="models without a difference, too")
    arguments = parser.parse_args()
    with spinner("reading experiments"):
        rows = list(read(show(), arguments.metric))
    models = list(dict.fromkeys(model for row in rows for model in row.values))
    if not models:
        raise UserError(f"--metric must be a key of the metrics files of a model, such as {METRIC}. "
                        f"Received: {arguments.metric!r}, which none has")  # fmt: skip
    if not arguments.all:
        models = [model for model in models if len({row.values.get(model) for row in rows if row.values}) > 1]
    console.say(arguments.metric)
    console.say(*table(rows, models, shutil.get_terminal_size((120, 24)).columns))
    experiments = sum(not row.baseline for row in rows)
    console.say(f"experiments: {experiments}. Take one over: dvc exp apply NAME; all of each: dvc exp show --csv")


def show() -> list[dict[str, Any]]:
    """Returns what `dvc exp show --json` prints.

    Raises:
      UserError: DVC can't tell.
    """
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell, fixed words
    if done.returncode:
        raise UserError(f"dvc exp show failed: {' '.join(done.stderr.split())}")
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)
    except (ValueError, RecursionError) as error:
        raise UserError(f"dvc exp show prints no JSON: {error}. Run: dvc exp show") from error
    return found


def read(shown: Sequence[Mapping[str, Any]], metric: str) -> Iterator[Row]:
    """Yields the revisions in DVC's order, each one's experiments below it."""
    for state in shown:
        rev = state["rev"]
        yield _row(state, state.get("name") or (rev if rev == WORKSPACE else rev[:7]), True, "", metric)
        for experiment in state.get("experiments") or ():
            status = str((experiment.get("executor") or {}).get("state") or "")
            last = experiment["revs"][0]
            name = experiment.get("name") or last.get("name") or last["rev"][:7]
            yield _row(last, name, False, "" if status == "success" else status, metric)


def table(rows: Sequence[Row], models: Sequence[str], columns: int) -> list[str]:
    """Returns the lines of the table, none wider than `columns`."""
    backbones = {model.rpartition("/")[0] for model in models} - {""}
    headings = [model.rsplit("/", 1)[-1] if len(backbones) < 2 else model for model in models]
    widths = [max(len(heading), 6) for heading in headings]
    first = max([len(row.name) for row in rows] + [10]) + 3
    lines = ["experiment".ljust(first) + "".join(f"{h:>{w}}  " for h, w in zip(headings, widths, strict=True))]
    lines[0] += "changed"
    baseline: Mapping[str, Any] = {}
    for row in rows:
        cells = [f"{row.values[model]:.4f}" if model in row.values else "-" for model in models]
        numbers = "".join(f"{cell:>{width}}  " for cell, width in zip(cells, widths, strict=True))
        if row.baseline:
            baseline = row.params
        name = row.name if row.baseline else f"- {row.name}"
        lines.append(name.ljust(first) + numbers + (row.state or changes(baseline, row.params)))
    shown = (console.in_a_line(line.rstrip()) for line in lines)  # before it is measured: escapes are wider
    return [line if len(line) <= columns else f"{line[: columns - 1]}…" for line in shown]


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Returns the parameters that differ as KEY=VALUE words."""
    differing = [key for key in after if before.get(key) != after[key]]
    return " ".join(f"{key}={json.dumps(after[key], separators=(',', ':'))}" for key in differing)


def _row(state: Mapping[str, Any], name: str, baseline: bool, status: str, metric: str) -> Row:
    data = state.get("data") or {}
    values = {}
    for path, content in (data.get("metrics") or {}).items():
        value = _flat(content.get("data") or {}).get(metric)
        if isinstance(value, int | float):
            values[str(PurePosixPath(path).with_suffix("")).removeprefix("metrics/")] = float(value)
    files = (data.get("params") or {}).values()
    params = {key: value for content in files for key, value in _flat(content.get("data") or {}).items()}
    return Row(name, baseline, status, values, params)


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


if __name__ == "__main__":
    console.run(main)
