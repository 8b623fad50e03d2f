"""Shows how much each model's figure varies with the seed.

Reads the experiments of this commit: runs that differ in seeds alone are one
row, with mean and sample standard deviation. Make them with, for example,
  dvc exp run --queue -S finetune.seed=0,1,2 && dvc exp run --run-all

example: python -m app.spread
         python -m app.spread --metric log_loss
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.library import console
from stages.library.console import UserError
from stages.library.leaderboard import as_markdown, flat
from stages.library.model_names import FINETUNED, SCRATCH

# Sections whose seed a model's figure depends on, by its name; heads are trained with that of cross_validation.
TRAINED_WITH = {FINETUNED: "finetune", SCRATCH: "scratch"}
OF_HEADS = "cross_validation"
OF_ALL = ("split", "extract")
NOT_MODELS = {"fewshot", "audit"}  # few-shot results have repeats of their own
HEADINGS = ("model", "seeds", "runs", "mean ± std", "lowest", "highest")


@dataclass(frozen=True)
class Run:
    """One experiment.

    Attributes:
      params: dotted key -> value, of params.yaml.
      metrics: model, such as "efficientnet_lite0/ridge" -> dotted key -> number.
    """

    params: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Spread:
    """A model's figure over seeds.

    Attributes:
      model: its name.
      others: all parameters but seeds, as JSON: the same in all runs.
      values: the figure by the seeds that it depends on, such as (("finetune.seed", 1), ("split.seed", 0)).
    """

    model: str
    others: str
    values: Mapping[tuple[tuple[str, Any], ...], float]

    def cells(self) -> tuple[str, ...]:
        """Returns the row as people read it, a cell for each of `HEADINGS`."""
        numbers = list(self.values.values())
        varied = [
            f"{name} {', '.join(map(str, sorted(set(seeds))))}"
            for name, seeds in zip((name for name, _ in next(iter(self.values))), self._columns(), strict=True)
            if len(set(seeds)) > 1
        ]
        spread = f"{np.mean(numbers):.4f} ± {np.std(numbers, ddof=1):.4f}"
        edges = f"{min(numbers):.4f}", f"{max(numbers):.4f}"
        return self.model, "; ".join(varied), str(len(numbers)), spread, *edges

    def _columns(self) -> Iterable[tuple[Any, ...]]:
        return zip(*([seed for _, seed in seeds] for seeds in self.values), strict=True)


def main() -> None:
    """Runs the program."""
    parser = console.Parser(
        prog="python -m app.spread", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--metric", default="top1_accuracy", metavar="KEY", help="dotted (default: top1_accuracy)")
    parser.add_argument("--project", type=Path, default=Path(), metavar="FOLDER", help="checkout (default: here)")
    arguments = parser.parse_args()
    found = spreads(runs(experiments(arguments.project)), arguments.metric)
    if not found:
        raise UserError(
            f"no two experiments of this commit have `{arguments.metric}` and differ in seeds alone. "
            "Run, for example: dvc exp run --queue -S finetune.seed=0,1,2 && dvc exp run --run-all"
        )
    console.say(*tables(found).removesuffix("\n").split("\n"))
    console.say("spread: more runs make it surer: dvc exp run --queue -S finetune.seed=3,4 && dvc exp run --run-all")


def experiments(project: Path) -> list[Any]:
    """Returns what `dvc exp show --json` prints.

    Raises:
      UserError: DVC fails.
    """
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise UserError(f"dvc exp show fails: {' '.join(done.stderr.split())[:300]}")
    try:
        return list(json.loads(done.stdout))
    except (ValueError, RecursionError) as error:
        raise UserError(f"dvc exp show prints no JSON: {error}. Run: dvc exp show") from error


def runs(shown: Iterable[Any]) -> list[Run]:
    """Returns the commit's own run and those of its experiments, of what `experiments` gives; failed ones left out."""
    rows = []
    for baseline in shown:
        if baseline["rev"] != "workspace":  # the workspace is a copy of one of the others, or not yet committed
            rows.append(baseline)
            rows += [row for experiment in baseline["experiments"] or [] for row in experiment["revs"]]
    return [Run(_params(row["data"]), _metrics(row["data"])) for row in rows if row.get("data")]


def _params(data: Mapping[str, Any]) -> dict[str, Any]:
    return flat(data["params"].get("params.yaml", {}).get("data") or {})


def _metrics(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    files = {Path(name): file.get("data") or {} for name, file in data["metrics"].items()}
    return {
        Path(*path.with_suffix("").parts[1:]).as_posix(): flat(content)
        for path, content in files.items()
        if not set(path.with_suffix("").parts) & NOT_MODELS
    }


def spreads(found: Sequence[Run], metric: str) -> list[Spread]:
    """Returns the spread of every model with at least two runs that differ in its seeds alone, sorted by name.

    Args:
      found: the runs; of those with the same parameters the first counts.
      metric: dotted key in the metrics files.
    """
    values: dict[tuple[str, str], dict[tuple[tuple[str, Any], ...], float]] = {}
    for run in found:
        others = json.dumps({key: value for key, value in run.params.items() if not _is_seed(key)}, sort_keys=True)
        for model, numbers in run.metrics.items():
            if metric in numbers:
                trained_with = TRAINED_WITH.get(model.rsplit("/", 1)[-1], OF_HEADS)
                keys = (f"{section}.seed" for section in sorted({trained_with, *OF_ALL}))
                seeds = tuple((key, run.params.get(key)) for key in keys)
                values.setdefault((model, others), {}).setdefault(seeds, numbers[metric])
    return [Spread(*key, some) for key, some in sorted(values.items()) if len(some) > 1]


def _is_seed(key: str) -> bool:
    return key.rsplit(".", 1)[-1] == "seed"


def tables(found: Sequence[Spread]) -> str:
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


if __name__ == "__main__":
    console.run(main)
