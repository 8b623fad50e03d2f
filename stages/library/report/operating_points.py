"""Where models answer, and what their sets of classes are worth, as a table."""

from collections.abc import Iterable

from stages.library.report.leaderboard import Result
from stages.library.scoring.result_files import OperatingPoint

HEADINGS = (
    "model",
    "least confidence",
    "answered",
    "accuracy of these",
    "95%",
    "sets hold the true class",
    "95%",
    "size",
)
NOTE = """Both were found on images that the model was not fitted to, for the accuracy and the coverage that
<code>evaluate.target_accuracy</code> and <code>evaluate.coverage</code> state, and are measured on the test images.
A model answers from the least confidence on; a set has each class that the image may be, and its mean size is the last
column. "app.predict --abstain" heeds both."""


def rows(results: Iterable[Result]) -> list[tuple[str, ...]]:
    """Returns a row of cells for each model of which this is known."""
    points = ((result.name, result.metrics.get("operating")) for result in results)
    return [(name, *_cells(point)) for name, point in points if point]


def _cells(point: OperatingPoint) -> tuple[str, ...]:
    answers, sets = point["answers"], point["sets"]
    shown = tuple(
        f"{answers[key]:.4f}" if key in answers else "-" for key in ("least_confidence", "answered", "accuracy")
    )
    interval = f"[{answers['low']:.4f}, {answers['high']:.4f}]" if "low" in answers else "-"
    held = f"{sets['coverage']:.4f}", f"[{sets['low']:.4f}, {sets['high']:.4f}]", f"{sets['mean_size']:.2f}"
    return *shown, interval, *held
