"""The JSON files of results, as the report, the page and the programs read them."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NotRequired

import pydantic
from typing_extensions import TypedDict

from stages.library.common import guarded_files

Count = Annotated[int, pydantic.Field(ge=0)]
Fraction = Annotated[float, pydantic.Field(ge=0, le=1)]


class Interval(TypedDict):
    """The ends of a 95% interval."""

    low: Fraction
    high: Fraction


class Validation(TypedDict):
    """What `selection.measure` found on the validation split, or on those of its images that a head did not see."""

    top1_accuracy: Fraction
    balanced_accuracy: Fraction
    macro_f1: Fraction
    log_loss: float
    num_examples: Count


class Answers(TypedDict):
    """What the model is sure enough of, see `operating.measure`; no confidence where it never is."""

    answered: Fraction
    least_confidence: NotRequired[Fraction]
    accuracy: NotRequired[Fraction]
    low: NotRequired[Fraction]
    high: NotRequired[Fraction]


class Sets(TypedDict):
    """What sets of classes are worth that hold the true one with a stated probability."""

    least_probability: Fraction
    mean_size: Annotated[float, pydantic.Field(ge=0)]
    coverage: Fraction
    low: Fraction
    high: Fraction


class OperatingPoint(TypedDict):
    """Where a model answers, and what that is worth on test images."""

    answers: Answers
    sets: Sets


@pydantic.with_config(extra="allow")  # keys that only people read
class Metrics(TypedDict):
    """A model's metrics file: nested objects of numbers."""

    top1_accuracy: Fraction
    top1_accuracy_interval: Interval
    num_examples: Count
    size_bytes: NotRequired[Count]
    calibration: NotRequired[dict[str, float]]
    cross_validation: NotRequired[dict[str, dict[str, float]]]
    validation: NotRequired[Validation]
    operating: NotRequired[OperatingPoint]


class On(TypedDict):
    """The data set that something was measured on, by the sha256 of its dataset.json."""

    sha256: str


class Evaluation(TypedDict):
    """evaluation.json: which model was measured on what; `backbone` is null for a network trained from scratch."""

    model: str
    backbone: str | None
    dataset: On


class FewShot(TypedDict):
    """fewshot.json: what was measured on what."""

    features: str
    repeats: Count
    classes_left_out: list[str]
    dataset: On


class Moments(TypedDict):
    """Mean and sample standard deviation over the repeats."""

    mean: float
    std: float


class FewShotNumbers(TypedDict):
    """The accuracy of a head on few images of each class."""

    top1_accuracy: Moments
    balanced_accuracy: Moments
    num_examples: Count


class FewShotMetrics(FewShotNumbers):
    """The metrics file of such a head; without the classes of clutter, where the data set has any, the same."""

    without_background: NotRequired[FewShotNumbers]


class Audit(TypedDict):
    """audit.json: how much was found, among how many images."""

    images: Count
    all_images: Count
    label_issues: Count
    near_duplicate_pairs: Count
    near_duplicate_pairs_across_splits: Count
    dataset: On


def _numbers(metrics: Metrics) -> Metrics:
    waiting: list[tuple[str, Any]] = [("", dict(metrics))]
    for path, value in waiting:
        if isinstance(value, dict):
            waiting += [(f"{path}.{key}".removeprefix("."), part) for key, part in value.items()]
        elif not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"`{path}` must be a number or an object of numbers")
    return metrics


def _reader(kind: Any, stage: str) -> Callable[[Path], Any]:
    """Returns a function that reads such a file; UserError where it is missing, damaged or of another kind."""
    return functools.partial(guarded_files.read_json, kind=kind, remedy=f"Run: dvc repro -f {stage}")


read_metrics = _reader(Annotated[Metrics, pydantic.AfterValidator(_numbers)], "evaluate")
read_evaluation: Callable[[Path], Evaluation] = _reader(Evaluation, "evaluate")
read_fewshot: Callable[[Path], FewShot] = _reader(FewShot, "fewshot")
read_fewshot_metrics: Callable[[Path], FewShotMetrics] = _reader(FewShotMetrics, "fewshot")
read_audit: Callable[[Path], Audit] = _reader(Audit, "audit")
read_cross_validation = _reader(dict[str, dict[str, float]], "train-heads")  # metric -> "mean", "std" and the like
