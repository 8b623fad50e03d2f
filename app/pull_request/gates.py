"""Limits on how far a metric may fall or rise, and what breaks them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeGuard

from app.pull_request.revisions import Revision
from stages.library.common.console import UserError

HIGHER_IS_BETTER = {"top1_accuracy", "top5_accuracy", "balanced_accuracy", "macro_f1"}
LOWER_IS_BETTER = {"log_loss", "expected_calibration_error", "expected_calibration_error_before"}
FORMER_METRICS = {"mean_class_accuracy": "balanced_accuracy"}  # names of earlier releases -> what they are now
FOLDERS = {"metrics"}  # parts of a metrics file's path that are no name of a backbone or head
TOLERANCE = 1e-9  # metrics are rounded to 6 decimals, so a difference of exactly the limit must not depend on floats


@dataclass(frozen=True)
class Gate:
    """A limit on one metric of every model.

    Attributes:
      key: dotted, as `dvc metrics diff` shows it.
      limit: how far it may go in the bad direction, in its own unit; >= 0.
      drop: True where falling is bad.
    """

    key: str
    limit: float
    drop: bool

    def __str__(self) -> str:
        return f"{self.key} may {'fall' if self.drop else 'rise'} by at most {self.limit:g}"


def parse(drops: Sequence[str], rises: Sequence[str]) -> list[Gate]:
    """Reads KEY=AMOUNT words.

    Raises:
      UserError: a word is no such pair, a key stands twice, or a known metric is limited in its good direction.
    """
    gates = [_gate("--max-drop", word) for word in drops] + [_gate("--max-rise", word) for word in rises]
    keys = [gate.key for gate in gates]
    if doubled := sorted({key for key in keys if keys.count(key) > 1}):
        raise UserError(f"--max-drop and --max-rise must name each metric once. Received twice: {', '.join(doubled)}")
    return gates


def failures(base: Revision, head: Revision, gates: Sequence[Gate], gone: Sequence[str]) -> list[str]:
    """Returns a sentence for each model that breaks a gate, and for each that vanished; without gates none.

    Args:
      base: what is compared with.
      head: what is compared.
      gates: limits.
      gone: as `removed` returns it.

    Raises:
      UserError: a key is no number in any metrics file of the base.
    """
    found = []
    for path, old in base.metrics.items() if gates else ():
        if path in head.metrics:
            found += [sentence for gate in gates for sentence in _broken(gate, path, old, head.metrics[path])]
        elif path not in gone:
            found.append(
                f"{path}: its metrics are gone, and params.yaml still lists the model. Run dvc repro, or take it "
                "out of the lists of params.yaml"
            )
    for gate in gates:
        having = [path for path, old in base.metrics.items() if is_number(old.get(gate.key))]
        if not having:
            current = ".".join(FORMER_METRICS.get(word, word) for word in gate.key.split("."))
            if current != gate.key:
                raise UserError(f"the metric `{gate.key}` is now `{current}`")
            keys = {key for metrics in base.metrics.values() for key, value in metrics.items() if is_number(value)}
            some = ", ".join(sorted(keys, key=lambda key: (key.count("."), key))[:8])
            raise UserError(
                f"a gate must name a numeric metric of {base.name}, as `dvc metrics diff` shows it. Received: "
                f"{gate.key!r}. There are: {some}, ..."
            )
        if set(having) <= set(gone):
            found.append(f"{gate.key}: nothing is left to compare; the pipeline no longer makes {', '.join(having)}")
    return found


def removed(base: Revision, head: Revision) -> list[str]:
    """Returns the metrics files of the base that were given up on purpose.

    The pipeline no longer makes such a file (one that it makes and that is missing is an error when the revision is
    read), and params.yaml does not ask for it: either a list there no longer has its backbone or head, or no list ever
    had it, as with `scratch` and `finetuned`, whose stages can only be deleted from dvc.yaml.
    """
    return [
        path
        for path in base.metrics
        if path not in head.metrics and not set(PurePosixPath(path).with_suffix("").parts) - FOLDERS <= head.listed
    ]


def is_number(value: Any) -> TypeGuard[float]:
    """Tells whether a metric is a number; DVC takes text and truth values, too."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _gate(option: str, word: str) -> Gate:
    drop = option == "--max-drop"
    key, _, amount = word.rpartition("=")
    try:
        limit = float(amount)
    except ValueError:
        limit = math.nan
    if not key or not (math.isfinite(limit) and limit >= 0):
        raise UserError(
            f"{option} must be METRIC=AMOUNT with a finite amount >= 0, e.g. "
            f"{option} {'top1_accuracy' if drop else 'log_loss'}=0.01. Received: {word!r}"
        )
    words = set(key.split("."))
    if "std" not in words and words & (LOWER_IS_BETTER if drop else HIGHER_IS_BETTER):
        other = "--max-rise" if drop else "--max-drop"
        raise UserError(f"{option} would forbid that {key} gets better. Write: {other} {word}")
    return Gate(key, limit, drop)


def _broken(gate: Gate, path: str, before: Any, after: Any) -> Iterator[str]:
    old, new = before.get(gate.key), after.get(gate.key)
    if not is_number(old) or math.isnan(old):
        return
    if not is_number(new):
        yield f"{path}: {gate.key} was {old:.6g} and is gone"
        return
    change = (old - new) if gate.drop else (new - old)
    if not change <= gate.limit + TOLERANCE:  # so that NaN breaks it, too
        verb = "fell" if gate.drop else "rose"
        yield f"{path}: {gate.key} {verb} from {old:.6g} to {new:.6g}, by {change:.6g}; allowed: {gate.limit:g}"
