"""Limits on how far a metric may fall or rise, and what breaks them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeGuard

from app.pull_request.revisions import Revision
from stages.library.common.console import UserError

HIGHER_IS_BETTER = {"top1_accuracy", "top5_accuracy", "balanced_accuracy", "macro_precision", "macro_f1", "cohen_kappa"}
HIGHER_IS_BETTER |= {"weighted_precision", "weighted_recall", "weighted_f1", "roc_auc", "average_precision"}
HIGHER_IS_BETTER |= {"precision", "recall", "f1"}  # of a class
LOWER_IS_BETTER = {"log_loss", "expected_calibration_error", "expected_calibration_error_before"}
FORMER_METRICS = {"mean_class_accuracy": "balanced_accuracy"}  # names of earlier releases -> what they are now
TOLERANCE = 1e-9  # metrics are rounded to 6 decimals, so a difference of exactly the limit must not depend on floats


@dataclass(frozen=True)
class Gate:
    """A limit on how far one metric of every model may fall (`drop`) or rise, in its own unit."""

    key: str
    limit: float
    drop: bool

    def __str__(self) -> str:
        return f"{self.key} may {'fall' if self.drop else 'rise'} by at most {self.limit:g}"

    def fault(self, old: float, new: Any) -> str:
        """Returns how a metric breaks it, or "", as where there was no number before."""
        if math.isnan(old):
            return ""
        if not is_number(new):
            return f"was {old:.6g} and is gone"
        change = (old - new) if self.drop else (new - old)
        if change <= self.limit + TOLERANCE:  # which NaN is not
            return ""
        verb = "fell" if self.drop else "rose"
        return f"{verb} from {old:.6g} to {new:.6g}, by {change:.6g}; allowed: {self.limit:g}"


def parse(drops: Sequence[str], rises: Sequence[str]) -> list[Gate]:
    """Reads METRIC=AMOUNT words; raises UserError for another word, a metric named twice, or a wrong direction."""
    gates = [_gate("--max-drop", word) for word in drops] + [_gate("--max-rise", word) for word in rises]
    keys = [gate.key for gate in gates]
    if doubled := sorted({key for key in keys if keys.count(key) > 1}):
        raise UserError(f"--max-drop and --max-rise must name each metric once. Received twice: {', '.join(doubled)}")
    return gates


def judge(base: Revision, head: Revision, gates: Sequence[Gate]) -> tuple[list[str], list[str]]:
    """Returns a sentence for each broken gate, and the metrics files that were given up on purpose.

    The pipeline no longer makes such a file (one that it makes and that is missing is an error when the revision is
    read), and params.yaml does not ask for it: either a list there no longer has its backbone or head, or no list ever
    had it, as with `scratch` and `finetuned`, whose stages can only be deleted from dvc.yaml.
    """
    vanished = [path for path in base.metrics if path not in head.metrics] if gates else []
    gone = [path for path in vanished if not {*PurePosixPath(path).with_suffix("").parts} - {"metrics"} <= head.listed]
    listed = "its metrics are gone, and params.yaml still lists the model. Run dvc repro, or take it out of its lists"
    failures = [f"{path}: {listed}" for path in vanished if path not in gone]
    for gate in gates:
        before = {path: old[gate.key] for path, old in base.metrics.items() if is_number(old.get(gate.key))}
        if not before:
            raise UserError(_unknown(gate.key, base))
        if before.keys() <= set(gone):
            failures.append(f"{gate.key}: nothing is left to compare; the pipeline no longer makes {', '.join(before)}")
        after = {path: head.metrics[path].get(gate.key) for path in before if path in head.metrics}
        faults = {path: gate.fault(before[path], new) for path, new in after.items()}
        failures += [f"{path}: {gate.key} {fault}" for path, fault in faults.items() if fault]
    return failures, gone


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
    if not key or not 0 <= limit < math.inf:
        example = f"{option} {'top1_accuracy' if drop else 'log_loss'}=0.01"
        raise UserError(f"{option} must be METRIC=AMOUNT with a finite amount >= 0, e.g. {example}. Received: {word!r}")
    words = set(key.split("."))
    if "std" not in words and words & (LOWER_IS_BETTER if drop else HIGHER_IS_BETTER):
        other = "--max-rise" if drop else "--max-drop"
        raise UserError(f"{option} would forbid that {key} gets better. Write: {other} {word}")
    return Gate(key, limit, drop)


def _unknown(key: str, base: Revision) -> str:
    current = ".".join(FORMER_METRICS.get(word, word) for word in key.split("."))
    if current != key:
        return f"the metric `{key}` is now `{current}`"
    keys = {key for metrics in base.metrics.values() for key, value in metrics.items() if is_number(value)}
    some = ", ".join(sorted(keys, key=lambda key: (key.count("."), key))[:8])
    rule = f"a gate must name a numeric metric of {base.name}, as `dvc metrics diff` shows it"
    return f"{rule}. Received: {key!r}. There are: {some}, ..."
