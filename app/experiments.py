"""Lists experiments in a table that fits a terminal.

It has a metric of each model, and what each experiment changed in params.yaml
or in the images. A metric that a run did not compute is left out.
`dvc exp show` has a column for each metric of each model, some 80 of them.
Models in which the metric is the same everywhere are left out.
With --spread, it shows how much the metric varies between runs of this commit
that differ in seeds alone: mean and sample standard deviation of each model.

example: python -m app.experiments
         python -m app.experiments --metric log_loss --all
         python -m app.experiments --spread
"""

import json
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from app import computed, conflicts, place
from app.spinner import spinner
from stages.library.common import console
from stages.library.common.console import UserError
from stages.library.common.model_names import COMBINED, FINETUNED, SCRATCH
from stages.library.report.leaderboard import as_markdown, flat

WORKSPACE = "workspace"
METRIC, OF_SPREAD = "cross_validation.top1_accuracy.mean", "top1_accuracy"
# Sections whose seed a model's metric depends on, by its name; heads are trained with that of cross_validation.
TRAINED_WITH = {FINETUNED: "finetune", SCRATCH: "scratch"}
HEADINGS = ("model", "seeds", "runs", "mean ± std", "lowest", "highest")
MORE = "dvc exp run --queue -S finetune.seed={} && dvc exp run --run-all"
Seeds = tuple[tuple[str, Any], ...]  # such as (("finetune.seed", 1), ("split.seed", 0))
Spreads = dict[str, dict[str, dict[Seeds, float]]]  # all other parameters, as JSON -> model -> seeds -> metric


@dataclass(frozen=True)
class Row:
    """A revision: the workspace, a commit, or an experiment on it."""

    name: str  # of the experiment, or of the revision
    baseline: bool  # whether it is no experiment
    state: str  # "" where it has run, else what DVC says of it, such as "queued"
    values: Mapping[str, float]  # the metric by model, such as "efficientnet_lite0/ridge"
    params: Mapping[str, Any]  # by dotted key


def main() -> None:
    """Runs the program."""
    parser = console.Parser(prog="python -m app.experiments", description=__doc__)
    parser.add_argument("--metric", metavar="KEY", help=f"default: {METRIC}")
    parser.add_argument("--all", action="store_true", help="models without a difference, too")
    parser.add_argument("--spread", action="store_true", help=f"over seeds; its metric: {OF_SPREAD}")
    arguments = parser.parse_args()
    metric = arguments.metric or (OF_SPREAD if arguments.spread else METRIC)
    conflicts.reject(Path())
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
        rule = f"must be a key of the metrics files of a model, such as {METRIC}"
        raise UserError(f"--metric {rule}. Received: {metric!r}, which none has")
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
        none = f"no two experiments of this commit have `{metric}` and differ in seeds alone"
        raise UserError(f"{none}. Run, for example: {MORE.format('0,1,2')}")
    console.say(*spread_tables(found).removesuffix("\n").split("\n"))
    console.say(f"spread: more runs make it surer: {MORE.format('3,4')}")


def show() -> Sequence[Mapping[str, Any]]:
    """Returns what `dvc exp show --json` prints, but metrics of other runs; raises UserError where it can't."""
    place.check_history()
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell, fixed words
    if done.returncode:
        raise UserError(f"dvc exp show failed: {' '.join(done.stderr.split())}")
    try:
        found = json.loads(done.stdout)
    except (ValueError, RecursionError) as error:
        raise UserError(f"dvc exp show prints no JSON: {error}. Run: dvc exp show") from error
    return computed.alone(found)


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


def table(rows: Sequence[Row], models: Sequence[str], columns: int) -> list[str]:
    """Returns the lines of the table of experiments, none wider than `columns`."""
    backbones = {model.rpartition("/")[0] for model in models} - {"", COMBINED}
    headings = [model.rsplit("/", 1)[-1] if len(backbones) < 2 else model for model in models]
    lines = [["experiment", *headings, "changed"]]
    baseline: Mapping[str, Any] = {}
    for row in rows:
        if row.baseline:
            baseline = row.params
        cells = [f"{row.values[model]:.4f}" if model in row.values else "-" for model in models]
        name = row.name if row.baseline else f"- {row.name}"
        lines.append([name, *cells, row.state or changes(baseline, row.params)])
    name_width = max([len(row.name) for row in rows] + [10]) + 3
    widths = [max(len(heading), 6) for heading in headings]
    shown = []
    for name, *numbers, changed in lines:
        cells = [f"{number:>{width}}  " for number, width in zip(numbers, widths, strict=True)]
        # Before it is measured: escapes are wider.
        line = console.in_a_line("".join([name.ljust(name_width), *cells, changed]).rstrip())
        shown.append(line if len(line) <= columns else f"{line[: columns - 1]}…")
    return shown


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Returns the parameters that differ as KEY=VALUE words."""
    differing = [key for key in after if before.get(key) != after[key]]
    return " ".join(f"{key}={json.dumps(after[key], separators=(',', ':'))}" for key in differing)


def spreads(rows: Sequence[Row]) -> Spreads:
    """Returns the metric of every model with at least two runs that differ in its seeds alone.

    The workspace is left out: it is a copy of one of the others, or not yet committed. Of runs with the same
    parameters the first counts.
    """
    values: Spreads = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row.state or (row.baseline and row.name == WORKSPACE):
            continue
        others = {key: value for key, value in row.params.items() if not f".{key}".endswith(".seed")}
        for model, value in row.values.items():
            words = model.split("/")
            if not {"fewshot", "audit"}.intersection(words):  # which are no models, or have repeats of their own
                kinds = (TRAINED_WITH.get(word, "cross_validation") for word in words[1:] or words)
                sections = {"split", "extract", *kinds}
                seeds = tuple((f"{section}.seed", row.params.get(f"{section}.seed")) for section in sorted(sections))
                values[json.dumps(others, sort_keys=True)][model].setdefault(seeds, value)
    several = {
        others: {model: runs for model, runs in sorted(models.items()) if len(runs) > 1}
        for others, models in sorted(values.items())
    }
    return {others: models for others, models in several.items() if models}


def spread_tables(found: Spreads) -> str:
    """Returns a table for each set of other parameters, below those in which the sets differ."""
    settings = {others: {key: json.dumps(value) for key, value in json.loads(others).items()} for others in found}
    common = set.intersection(*(set(some.items()) for some in settings.values()))
    parts = []
    for others, models in found.items():
        own = sorted(set(settings[others].items()) - common)
        title = "".join(f"{key}: {value}\n" for key, value in own)
        parts.append(title + as_markdown(HEADINGS, [cells(model, runs) for model, runs in models.items()]))
    return "\n".join(parts)


def cells(model: str, runs: Mapping[Seeds, float]) -> tuple[str, ...]:
    """Returns the row of a model's runs as people read it, a cell for each of `HEADINGS`."""
    numbers = list(runs.values())
    seeds: dict[str, set[Any]] = defaultdict(set)
    for key, seed in (pair for pairs in runs for pair in pairs):
        seeds[key].add(seed)
    varied = [f"{key} {', '.join(map(str, sorted(some)))}" for key, some in seeds.items() if len(some) > 1]
    spread = f"{np.mean(numbers):.4f} ± {np.std(numbers, ddof=1):.4f}"
    return model, "; ".join(varied), str(len(numbers)), spread, f"{min(numbers):.4f}", f"{max(numbers):.4f}"


if __name__ == "__main__":
    console.run(main)
