"""The readers of our own documents in YAML, JSON and CSV, and of the web page's form, as the fuzzer sees them."""

import asyncio
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from app import web_upload
from checks.fuzz_readers import PNG, ROOT, SEPARATOR, Reader, joined, of_files, written
from checks.fuzz_text import change_csv, change_json, change_yaml, hostile_json, hostile_yaml
from stages.library.common import artifacts
from stages.library.preparation import summary as dataset_summary
from stages.library.preparation.normalisation import Values
from stages.library.records import dataset_file
from stages.library.records.tfrecord import SPLITS, Record
from stages.library.report import fewshot_results, leaderboard, published
from stages.library.report import page as report_page
from stages.library.settings import load_params

SHORT = "backbones: [efficientnet_lite0]\nridge:\n  features: bottleneck\n  penalties: [1.0]\n"  # read quickly
MODEL = "ridge"
BACKBONE = "efficientnet_lite0"
SHA256 = "a" * 64
BOUNDARY = b"----x"


def _dataset_seeds(folder: Path) -> list[bytes]:
    summary = dataset_summary.Summary()
    for number, split in enumerate((*SPLITS, *SPLITS)):
        text = ("cat", "dog")[number % 2]
        summary.add(split, Record(f"{number:064x}", b"", "png", 9, 12, 0, text, f"{text}/1.png"), Values(0, 255, 99, 3))
    return [artifacts.canonical_json(summary.content("folder")).encode()]


def _read_dataset(content: bytes, folder: Path) -> None:
    about = dataset_file.read(written(content, folder, "dataset.json"))
    assert all(isinstance(name, str) for name in about["classes"]), "classes are names"
    report_page.facts(about)


def _report_seeds(folder: Path) -> list[bytes]:
    """What a report is made of: metrics, what was evaluated, few-shot results with their table, and an audit."""
    about = {"dataset": {"name": "digits", "sha256": SHA256}}
    low = {"label_issues": 1, "near_duplicate_pairs": 2, "near_duplicate_pairs_across_splits": 0}
    accuracies = {key: {"mean": 0.5, "std": 0.01} for key in ("top1_accuracy", "balanced_accuracy")}
    documents: tuple[dict[str, Any], ...] = (
        about | {"model": MODEL, "kind": "head", "backbone": BACKBONE},
        about | {"features": "bottleneck", "repeats": 2, "classes_left_out": []},
        accuracies | {"num_examples": 100},
        about | low | {"images": 5, "all_images": 9},
    )
    table = b"head,shots,repeat,background,top1_accuracy,balanced_accuracy\nridge,5,0,with,0.5,0.5\n"
    metrics = joined(ROOT, f"metrics/{BACKBONE}/{MODEL}.json")
    return [SEPARATOR.join((metrics, *(artifacts.canonical_json(each).encode() for each in documents), table))]


def _read_report(content: bytes, folder: Path) -> None:
    """The documents of a report, to the text of its tables."""
    metrics, evaluations = folder / "metrics", folder / "evaluations"
    few = Path(BACKBONE, leaderboard.FEWSHOT, MODEL)
    written(
        content,
        folder,
        metrics / BACKBONE / f"{MODEL}.json",
        evaluations / BACKBONE / MODEL / "evaluation.json",
        evaluations / few / "5" / "fewshot.json",
        metrics / few / "5.json",
        evaluations / BACKBONE / leaderboard.AUDIT / "audit.json",
        evaluations / few / "5" / "repeats.csv",
    )
    results, _ = leaderboard.collect(metrics, evaluations, SHA256, {f"{BACKBONE}/{MODEL}"})
    fewshots, _ = fewshot_results.collect(metrics, evaluations, SHA256, [(BACKBONE, MODEL, 5)])
    leaderboard.collect_audits(evaluations, SHA256, [BACKBONE])
    leaderboard.as_markdown(leaderboard.HEADINGS, map(leaderboard.cells, results))
    leaderboard.as_csv(results)
    leaderboard.as_markdown(fewshot_results.HEADINGS, map(fewshot_results.cells, fewshots))
    fewshot_results.as_csv(fewshots)
    ours = [*leaderboard.measured(results, {MODEL: "bottleneck"}), *fewshot_results.measured(fewshots)]
    published.compare(published.load("cifar10"), ours)


def _upload_seeds(folder: Path) -> list[bytes]:
    fields = {b'"model"': b"ridge", b'"label"': b"3", b'"image"; filename="a.png"': PNG}
    parts = [b"Content-Disposition: form-data; name=" + name + b"\r\n\r\n" + value for name, value in fields.items()]
    return [b"".join(b"--" + BOUNDARY + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + BOUNDARY + b"--\r\n"]


def _read_upload(content: bytes, folder: Path) -> None:
    """A form of the web page as the server reads it, in two blocks."""
    half = len(content) // 2
    blocks = [content[:half], content[half:]]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": blocks.pop(0), "more_body": bool(blocks)}

    kind = b"multipart/form-data; boundary=" + BOUNDARY
    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind)]}
    upload = asyncio.run(web_upload.read(Request(scope, receive), 1 << 16))
    assert upload.label is None or 0 <= upload.label < 10**6, "a number as long as ours"
    if upload.file:
        upload.file.close()


def readers() -> dict[str, Reader]:
    """Returns the readers by name."""
    return {
        "params": Reader(
            lambda folder: [joined(ROOT, "params.yaml")],
            lambda content, folder: load_params(written(content, folder, "params.yaml")),
            structural=change_yaml,
            hostile=lambda: hostile_yaml(SHORT, "backbones", "penalties"),
        ),
        "dataset": Reader(
            _dataset_seeds,
            _read_dataset,
            structural=change_json,
            hostile=lambda: hostile_json(_dataset_seeds(Path())[0]),
        ),
        "report": Reader(_report_seeds, _read_report, structural=of_files(*[change_json] * 5, change_csv)),
        "upload": Reader(_upload_seeds, _read_upload, (web_upload.TooLargeError, HTTPException)),
    }
