"""Lists experiments in a table that fits a terminal.

It has a metric of each model, and what each experiment changed in params.yaml.
`dvc exp show` has a column for each metric of each model, some 80 of them.
Models in which the metric is the same everywhere are left out.
With --spread, it shows how much the metric varies between runs of this commit
that differ in seeds alone: mean and sample standard deviation of each model.

example: python -m app.experiments
         python -m app.experiments --metric log_loss --all
         python -m app.experiments --spread
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

import numpy as np

from app.spinner import spinner
from stages.library.common import console
from stages.library.common.console import UserError
from stages.library.common.model_names import FINETUNED, SCRATCH
from stages.library.report.leaderboard import as_markdown, flat

WORKSPACE = "workspace"
METRIC, OF_SPREAD = "cross_validation.top1_accuracy.mean", "top1_accuracy"
# Sections whose seed a model's metric depends on, by its name; heads are trained with that of cross_validation.
TRAINED_WITH = {FINETUNED: "finetune", SCRATCH: "scratch"}
OF_HEADS = "cross_validation"
OF_ALL = ("split", "extract")
NOT_MODELS = {"fewshot", "audit"}  # few-shot results have repeats of their own
HEADINGS = ("model", "seeds", "runs", "mean ± std", "lowest", "highest")
MORE = "dvc exp run --queue -S finetune.seed={} && dvc exp run --run-all"


@dataclass(frozen=True)
class Row:
    """A revision: the workspace, a commit, or an experiment on it.

    Attributes:
      name: of the experiment, or of the revision.
      baseline: whether it is no experiment.
      state: "" where it has run, else what DVC says of it, such as "Queued".
      values: model, such as "efficientnet_lite0/ridge" -> the metric.
      params: dotted key -> value.
    """

    name: str
    baseline: bool
    state: str
    values: Mapping[str, float]
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Spread:
    """A model's metric over seeds.

    Attributes:
      model: its name.
      others: all parameters but seeds, as JSON: the same in all runs.
      values: the metric by the seeds that it depends on, such as (("finetune.seed", 1), ("split.seed", 0)).
    """

    model: str
    others: str
    values: Mapping[tuple[tuple[str, Any], ...], float]

    def cells(self) -> tuple[str, ...]:
        """Returns the row as people read it, a cell for each of `HEADINGS`."""
        numbers = list(self.values.values())
        seeds: dict[str, set[Any]] = {}
        for key, seed in (pair for pairs in self.values for pair in pairs):
            seeds.setdefault(key, set()).add(seed)
        varied = [f"{key} {', '.join(map(str, sorted(some)))}" for key, some in seeds.items() if len(some) > 1]
        spread = f"{np.mean(numbers):.4f} ± {np.std(numbers, ddof=1):.4f}"
        return self.model, "; ".join(varied), str(len(numbers)), spread, f"{min(numbers):.4f}", f"{max(numbers):.4f}"


def main() -> None:
    """Runs the program."""
    parser = console.Parser(
        prog="python -m app.experiments", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--metric", metavar="KEY", help=f"default: {METRIC}")
    parser.add_argument("--all", action="store_true", help="models without a difference, too")
    parser.add_argument("--spread", action="store_true", help=f"over seeds; its metric: {OF_SPREAD}")
    arguments = parser.parse_args()
    metric = arguments.metric or (OF_SPREAD if arguments.spread else METRIC)
    with spinner("reading experiments"):
        rows = list(read(show(), metric))
    if arguments.spread:
        say_spreads(rows, metric)
    else:
        say_experiments(rows, metric, arguments.all)


def say_experiments(rows: Sequence[Row], metric: str, everything: bool) -> None:
    """Prints the table of experiments; raises UserError where no model has the metric."""
    models = list(dict.fromkeys(model for row in rows for model in row.values))
    if not models:
        raise UserError(f"--metric must be a key of the metrics files of a model, such as {METRIC}. "
                        f"Received: {metric!r}, which none has")  # fmt: skip
    if not everything:
        models = [model for model in models if len({row.values.get(model) for row in rows if row.values}) > 1]
    console.say(metric)
    console.say(*table(rows, models, shutil.get_terminal_size((120, 24)).columns))
    experiments = sum(not row.baseline for row in rows)
    console.say(f"experiments: {experiments}. Take one over: dvc exp apply NAME; all of each: dvc exp show --csv")


def say_spreads(rows: Sequence[Row], metric: str) -> None:
    """Prints the tables of spreads; raises UserError where no two runs differ in seeds alone."""
    found = spreads(rows)
    if not found:
        raise UserError(
            f"no two experiments of this commit have `{metric}` and differ in seeds alone. "
            f"Run, for example: {MORE.format('0,1,2')}"
        )
    console.say(*spread_tables(found).removesuffix("\n").split("\n"))
    console.say(f"spread: more runs make it surer: {MORE.format('3,4')}")


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
    """Returns the lines of the table of experiments, none wider than `columns`."""
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


def spreads(rows: Sequence[Row]) -> list[Spread]:
    """Returns the spread of every model with at least two runs that differ in its seeds alone, sorted by name.

    The workspace is left out: it is a copy of one of the others, or not yet committed. Of runs with the same
    parameters the first counts.
    """
    values: dict[tuple[str, str], dict[tuple[tuple[str, Any], ...], float]] = {}
    for row in rows:
        if row.state or (row.baseline and row.name == WORKSPACE):
            continue
        others = json.dumps({key: value for key, value in row.params.items() if not _is_seed(key)}, sort_keys=True)
        for model, value in row.values.items():
            name = model.rsplit("/", 1)[-1]
            if not NOT_MODELS.intersection(model.split("/")):
                keys = (f"{section}.seed" for section in sorted({TRAINED_WITH.get(name, OF_HEADS), *OF_ALL}))
                seeds = tuple((key, row.params.get(key)) for key in keys)
                values.setdefault((model, others), {}).setdefault(seeds, value)
    return [Spread(*key, some) for key, some in sorted(values.items()) if len(some) > 1]


def spread_tables(found: Sequence[Spread]) -> str:
    """Returns a table for each set of other parameters, below those in which the sets differ."""
    groups: dict[str, list[Spread]] = {}
    for spread in found:
        groups.setdefault(spread.others, []).append(spread)
    settings = {others: {key: json.dumps(value) for key, value in json.loads(others).items()} for others in groups}
    common = set.intersection(*(set(some.items()) for some in settings.values()))
    parts = []
    for others, members in groups.items():
        own = sorted(set(settings[others].items()) - common)
        title = "".join(f"{key}: {value}\n" for key, value in own)
        parts.append(title + as_markdown(HEADINGS, [spread.cells() for spread in members]))
    return "\n".join(parts)


def _row(state: Mapping[str, Any], name: str, baseline: bool, status: str, metric: str) -> Row:
    data = state.get("data") or {}
    values = {}
    for path, content in (data.get("metrics") or {}).items():
        value = flat(content.get("data") or {}).get(metric)
        if isinstance(value, int | float):
            values[str(PurePosixPath(path).with_suffix("")).removeprefix("metrics/")] = float(value)
    files = (data.get("params") or {}).values()
    params = {key: value for content in files for key, value in flat(content.get("data") or {}).items()}
    return Row(name, baseline, status, values, params)


def _is_seed(key: str) -> bool:
    return key.rsplit(".", 1)[-1] == "seed"


if __name__ == "__main__":
    console.run(main)
