"""Searches the settings of a head by cross-validation on cached features.

The first trial is params.yaml as it stands; Optuna proposes the others. Each is
scored by `evaluate.selection_metric` on the folds that training has, so test
images have no part in it. Trials are kept in artifacts/tuning: run it again to
go on after a stop, or with a larger N for more.

example: python -m app.tune ridge --trials 20
"""

import importlib.util
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from app.tuning import Search
from stages.library.common import artifacts, console
from stages.library.common.console import UserError
from stages.library.scoring import selection
from stages.library.settings import load_params


class Moments(NamedTuple):
    """Mean and sample standard deviation over the folds; one fold has none."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Moments":
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)

    def shown(self, sign: str = "") -> str:
        return f"{self.mean:{sign}.4f}" + ("" if self.std is None else f" ± {self.std:.4f}")


def main() -> None:
    """Runs the program."""
    parser = console.Parser(prog="python -m app.tune", description=__doc__)
    parser.add_argument("head", metavar="HEAD", help="one of `heads` in params.yaml")
    parser.add_argument("--backbone", metavar="NAME", help="or a joined one (default: the first of `backbones`)")
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="in all, at least 2 (default: 20)")
    parser.add_argument("--project", type=Path, default=Path(), metavar="FOLDER", help="checkout (default: here)")
    arguments = parser.parse_args()
    if arguments.trials < 2:
        parser.error(f"--trials must be at least 2, the first of which is params.yaml. Received: {arguments.trials}")
    if importlib.util.find_spec("optuna") is None:
        raise UserError("the Python package optuna is missing. Run: pip install -r requirements-tune.txt")
    settings = load_params(arguments.project / "params.yaml")
    head = _among("HEAD", "`heads`", arguments.head, settings["heads"])
    backbones = [*settings["backbones"], *settings["joined"]]
    backbone = _among("--backbone", "`backbones` and `joined`", arguments.backbone or backbones[0], backbones)
    folder, features = (arguments.project / "artifacts" / name / backbone for name in ("tuning", "bottlenecks"))
    with artifacts.locked(folder / f".{head}.lock", f"another search of {head} runs here: waiting for it"):
        search = Search(head, settings, features, folder)
        console.say(f"tune: {head} on {backbone}, by {search.metric}: {', '.join(search.space)}")
        _run(search, arguments.trials)
    console.say(*summary(search, backbone))


def _among(option: str, keys: str, name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise UserError(f"{option} must be among {keys} of params.yaml: {', '.join(known)}. Received: {name}")
    return name


def _run(search: Search, count: int) -> None:
    """Makes trials until there are so many."""
    with console.progress(range(0), "tune", "trials", total=count) as bar:
        bar.update(len(search.trials))
        while len(search.trials) < count:
            search.step()
            bar.set_postfix_str(f"best {Moments.of(search.trials[search.best()]['scores']).mean:.4f}", refresh=False)
            bar.update()


def gain(metric: selection.SelectionMetric, before: Sequence[float], after: Sequence[float]) -> Moments:
    """Returns by how much better each fold is than before, whether more or less of the metric is better."""
    pairs = zip(before, after, strict=True)
    return Moments.of([selection.merit(metric, new) - selection.merit(metric, old) for old, new in pairs])


def summary(search: Search, backbone: str) -> list[str]:
    """Returns the lines that say what was gained, and how to train with it."""
    number, count = search.best(), len(search.trials)
    present, best = search.trials[0], search.trials[number]
    failed = [trial["error"] for trial in search.trials if trial["error"]]
    lines = [f"params.yaml  {Moments.of(present['scores']).shown():17s}  {present['seconds']:.1f} s"]
    if number:
        better = gain(search.metric, present["scores"], best["scores"])
        lines.append(f"trial {number + 1:<5d}  {Moments.of(best['scores']).shown():17s}  {best['seconds']:.1f} s")
        lines.append(f"gain         {better.shown('+')}  {_judged(better)}")
    if failed:
        lines.append(f"{len(failed)} trials failed, the last one: {failed[-1]}")
    more = f"More trials: python -m app.tune {search.head} --backbone {backbone} --trials {2 * count}"
    if not number:
        return [*lines, f"tune: {search.head}, none of {count} trials is better than params.yaml. {more}"]
    command = shlex.join(["dvc", "exp", "run", *overrides(search.head, search.present, best["values"])])
    return [*lines, more, f"tune: {search.head}, the best of {count} trials. Next: {command}"]


def _judged(better: Moments) -> str:
    if better.std is None:
        return "of one fold, so there is no deviation to compare it with"
    if better.mean <= better.std:
        return "within the deviation of the folds' gains: it may be chance"
    return "beyond the deviation of the folds' gains; as the best of many it flatters a little"


def overrides(head: str, present: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Returns the words -S KEY=VALUE, for `dvc exp run`, of what differs from the present."""
    changed = {key: value for key, value in values.items() if value != present[key]}
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for key, value in changed.items()
    }
    return [word for key, text in texts.items() for word in ("-S", f"{head}.{key}={text}")]


if __name__ == "__main__":
    console.run(main)
