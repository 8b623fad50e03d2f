"""A small project to inject faults into: a data set on a local server, and every stage with a budget of seconds."""

import io
import re
import shutil
import tarfile
import threading
import time
import zipfile
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from benchmarks import generated
from stages.library.common import artifacts

ROOT = Path(__file__).parents[2]
BACKBONE = "efficientnet_lite0"
HEADS = ("ridge", "logistic", "softmax", "dnn", "xgboost")
IMAGES = 120
OTHER_BYTES = 6 << 20  # what else is in the archive, so that its download takes a while
SERVER_BLOCK_BYTES, SERVER_SECONDS = 1 << 18, 0.03
ITEM = re.compile(r"^(train-heads|evaluate)-.*")
CHANGES: dict[str, dict[str, Any]] = {
    "dataset": {"name": "caltech101"},
    "split": {"validation": 0.2, "test": 0.2},
    "tfrecord": {"shards": 2},
    "extract": {"input_size_px": 32},
    "cross_validation": {"folds": 3},
    "ridge": {"penalties": [1.0, 100.0]},
    "logistic": {"penalties": [1.0, 100.0]},
    "softmax": {"epochs": 5},
    "dnn": {"hidden_units": [32], "epochs": 3},
    "xgboost": {"num_trees": 5},
    "fewshot": {"heads": ["ridge"], "shots": [5], "repeats": 2},
    "finetune": {"epochs": 3, "head_epochs": 2, "batch_size": 16, "unfrozen_blocks": 1},
    "scratch": {"epochs": 3, "batch_size": 16, "hidden_units": [32]},
    "evaluate": {"bootstrap_samples": 1000},
}


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline.

    Attributes:
      name: of the stage and its item; module: of `stages`.
      template: its options, where {project} is what earlier stages wrote and {outs} the folder that it writes to.
      needs: the stages whose outs it reads.
      caches: whether it writes to the cache folder.
    """

    name: str
    module: str
    template: str
    needs: tuple[str, ...] = ()
    caches: bool = False

    def paths(self, outs: Path) -> list[Path]:
        """Returns its outs."""
        written = [part for part in self.template.split() if part.startswith("{outs}") and ".." not in part]
        return [Path(part.format(outs=outs)) for part in written]

    def options(self, project: Path, outs: Path) -> list[str]:
        """Returns the command line."""
        places = {"project": str(project), "outs": str(outs)}
        return ["--params", str(project / "params.yaml"), *(part.format(**places) for part in self.template.split())]


RECORDS = "--records {project}/data/tfrecord"
EXTRACTED = "--bottlenecks {project}/artifacts/bottlenecks"
NETWORK = f"--backbone {BACKBONE}"
EVALUATION = f"artifacts/evaluation/{BACKBONE}"
EVALUATED = "--metrics {outs}/metrics/%s.json --figures {outs}/artifacts/evaluation/%s"
# Name of the stage and its item: its options but --params, the stages whose outs it reads, whether it writes to the
# cache folder.
ROWS: dict[str, tuple[str, str, bool]] = {
    "fetch": ("--out {outs}/data/raw", "", True),
    "tfrecord": (
        "--raw {project}/data/raw --out {outs}/data/tfrecord --examples {outs}/data/examples.png", "fetch", False,
    ),
    "bottleneck-extract": (f"{NETWORK} {RECORDS} --out {{outs}}/artifacts/bottlenecks", "tfrecord", True),
    **{
        f"train-heads-{head}": (
            f"--head {head} {EXTRACTED} --out {{outs}}/artifacts/heads/{head}", "bottleneck-extract", head == "xgboost",
        )
        for head in HEADS
    },
    "fewshot": (
        f"{NETWORK} --head ridge --shots 5 {RECORDS} {EXTRACTED} "
        f"--metrics {{outs}}/metrics/{BACKBONE}/fewshot/ridge/5.json --out {{outs}}/{EVALUATION}/fewshot/ridge/5",
        "tfrecord bottleneck-extract", False,
    ),
    "finetune": (
        f"{NETWORK} {RECORDS} {EXTRACTED} --tensorboard {{outs}}/../tensorboard --out {{outs}}/artifacts/finetuned",
        "tfrecord bottleneck-extract", True,
    ),
    "train-scratch": (
        f"{RECORDS} --tensorboard {{outs}}/../tensorboard --out {{outs}}/artifacts/scratch", "tfrecord", True,
    ),
    "evaluate-ridge": (
        f"{RECORDS} --head {{project}}/artifacts/heads/ridge {EXTRACTED} "
        f"{EVALUATED.replace('%s', BACKBONE + '/ridge')}",
        "tfrecord bottleneck-extract train-heads-ridge", False,
    ),
    "evaluate-finetuned": (
        f"{RECORDS} --network {{project}}/artifacts/finetuned {EVALUATED.replace('%s', BACKBONE + '/finetuned')}",
        "tfrecord finetune", False,
    ),
    "evaluate-scratch": (
        f"{RECORDS} --network {{project}}/artifacts/scratch {EVALUATED.replace('%s', 'scratch')}",
        "tfrecord train-scratch", False,
    ),
    "audit": (
        f"{RECORDS} {EXTRACTED} --out-of-fold {{project}}/artifacts/heads/ridge/out_of_fold.parquet "
        f"--predictions {{project}}/{EVALUATION}/ridge/predictions.parquet --out {{outs}}/{EVALUATION}/audit",
        "tfrecord bottleneck-extract train-heads-ridge evaluate-ridge", False,
    ),
    "report": (
        f"{RECORDS} --metrics {{project}}/metrics --evaluations {{project}}/artifacts/evaluation "
        "--out {outs}/artifacts/report",
        "tfrecord evaluate-ridge", False,
    ),
}  # fmt: skip
STAGES = tuple(
    Stage(
        name,
        "evaluate_network" if "--network" in options else ITEM.sub(r"\1", name).replace("-", "_"),
        options,
        tuple(needs.split()),
        caches,
    )
    for name, (options, needs, caches) in ROWS.items()
)


def with_needs(names: list[str]) -> list[Stage]:
    """Returns some stages and all that they need, in the order in which they run."""
    wanted = set(names)
    for stage in reversed(STAGES):
        if stage.name in wanted:
            wanted |= set(stage.needs)
    return [stage for stage in STAGES if stage.name in wanted]


class Project:
    """Parameters, the archive on its server, and a folder of what the stages wrote undisturbed.

    Attributes:
      folder: of the project.
      archive: fields of the data set's RemoteFile.
      starts: where the downloads so far began, bytes.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        yaml = YAML()
        content = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        for section, values in CHANGES.items():
            content[section] |= values
        folder.mkdir(parents=True)
        with (folder / "params.yaml").open("w", encoding="utf-8") as file:
            yaml.dump(content, file)
        self._content = _archive(folder / "images")
        self.starts: list[int] = []
        served, starts = self._content, self.starts

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                starts.append(_start(self))
                _send(self, served, starts[-1])

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @cached_property
    def archive(self) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self._server.server_address[1]}/caltech-101.zip"
        digest = artifacts.sha256_bytes(self._content)
        return {"urls": [url], "size_bytes": len(self._content), "sha256": digest, "md5": None}

    def add(self, outs: Path) -> None:
        """Takes what a stage wrote, for the stages after it."""
        shutil.copytree(outs, self.folder, dirs_exist_ok=True)


def _archive(work: Path) -> bytes:
    """Returns a zip in Caltech-101's layout: a tar.gz of generated images, and something else."""
    generated.write_photos(work, IMAGES, sizes=((64, 48), (48, 64)))
    images = io.BytesIO()
    with tarfile.open(fileobj=images, mode="w:gz") as tar:
        tar.add(work, "101_ObjectCategories")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("caltech-101/101_ObjectCategories.tar.gz", images.getvalue())
        archive.writestr("caltech-101/Annotations.tar", np.random.default_rng(0).bytes(OTHER_BYTES))
    return content.getvalue()


def _start(request: BaseHTTPRequestHandler) -> int:
    return int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))


def _send(request: BaseHTTPRequestHandler, content: bytes, start: int) -> None:
    """Answers with the content or the rest of it, at the pace of a network."""
    request.send_response(206 if start else 200)
    if start:
        request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    request.send_header("Content-Length", str(len(content) - start))
    request.end_headers()
    try:
        for begin in range(start, len(content), SERVER_BLOCK_BYTES):
            request.wfile.write(content[begin : begin + SERVER_BLOCK_BYTES])
            time.sleep(SERVER_SECONDS)
    except OSError:  # its reader was killed
        request.close_connection = True
