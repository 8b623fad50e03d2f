"""What the scripts that evaluate have in common: their options, and what they do with predictions."""

import argparse
from pathlib import Path

from stages.library.common import console
from stages.library.evaluation import evaluation


def parser(doc: str | None, module: str, stage: str) -> console.Parser:
    """Returns a command line with the options that both have."""
    made = console.parser(doc, module, stage)
    made.add_argument("--params", type=Path, default=Path("params.yaml"))
    made.add_argument("--records", type=Path, default=Path("data/tfrecord"))
    made.add_argument("--metrics", type=Path, required=True)
    made.add_argument("--figures", type=Path, required=True)
    return made


def finish(
    stopwatch: console.Stopwatch,
    model: evaluation.Model,
    predictions: evaluation.Predictions,
    params: evaluation.Params,
    arguments: argparse.Namespace,
) -> None:
    """Writes what `evaluation.write_evaluation` does, and the stage's closing line."""
    with console.notice(f"measuring and drawing {model}"):
        numbers = evaluation.write_evaluation(
            model, predictions, arguments.records, params, arguments.metrics, arguments.figures
        )
    interval = numbers["top1_accuracy_interval"]
    stopwatch.close(
        "evaluate",
        f"{model}: top-1 {numbers['top1_accuracy']:.4f} [{interval['low']:.4f}, {interval['high']:.4f}] "
        f"on {numbers['num_examples']:,} test images",
        numbers["num_examples"],
        following="report",
    )
