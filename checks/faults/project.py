"""A small project to inject faults into: a data set on a local server, and every stage with a budget of seconds."""

import contextlib
import io
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ruamel.yaml import YAML

from benchmarks import generated
from benchmarks.shared import ROOT, write_params
from checks.faults import runner
from stages.library.common import artifacts
from stages.library.preparation import corrections

HEADS = "ridge", "logistic", "softmax", "dnn", "xgboost"  # the first one is evaluated, too
VALUES = {"item.backbone": "efficientnet_lite0", "heads[0]": HEADS[0], "item.shots": "5"}
ITEMS = {"train-heads": HEADS, "combine": ("average",)}  # what `item.head` stands for; of others the first head
TENSORBOARD = "artifacts/tensorboard"  # differs between equal runs
IMAGES = 120
OTHER_BYTES = 6 << 20  # what else is in the archive, so that its download takes a while
SERVER_BLOCK_BYTES, SERVER_SECONDS = 1 << 18, 0.03
CHANGES: dict[str, dict[str, Any]] = {
    "dataset": {"name": "caltech101"},
    "extract": {"input_size_px": 32},
    "cross_validation": {"folds": 3},
    "logistic": {"penalties": [1.0, 100.0]},
    "softmax": {"epochs": 5},
    "dnn": {"hidden_units": [32], "epochs": 3},
    "xgboost": {"num_trees": 5},
    "fewshot": {"heads": ["ridge"], "shots": [5], "repeats": 2},
    "finetune": {"epochs": 3, "head_epochs": 2, "batch_size": 16, "unfrozen_blocks": 1},
    "scratch": {"epochs": 3, "batch_size": 16, "hidden_units": [32]},
}


class Stage(NamedTuple):
    """A stage of dvc.yaml with one item; its paths are relative to the folder that it runs in."""

    name: str
    words: tuple[str, ...]  # module and options, as in dvc.yaml
    reads: tuple[Path, ...]
    outs: tuple[Path, ...]

    def needs(self, other: "Stage") -> bool:
        """Whether it reads an out of another stage."""
        pairs = [(one, out) for one in self.reads for out in other.outs]
        return any(one.is_relative_to(out) or out.is_relative_to(one) for one, out in pairs)


def _stages() -> Iterator[Stage]:
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    for name, value in VALUES.items():
        text = text.replace(f"${{{name}}}", value)
    for name, row in YAML(typ="safe", pure=True).load(text)["stages"].items():
        if name.endswith("-joined") or name == "combine-finetuned":  # the same scripts once more
            continue
        for head in ITEMS.get(name, HEADS[:1]):
            words = row["cmd"].replace("${item.head}", head).split()[2:]
            deps = [Path(dep.replace("${item.head}", head)) for dep in row["deps"]]
            paths = [Path(word) for word in words if word.startswith(("data", "artifacts", "metrics"))]
            reads = [path for path in paths if any(dep.is_relative_to(path) for dep in deps)]
            outs = [path for path in paths if path not in reads and not path.is_relative_to(TENSORBOARD)]
            item = f"{name}-{head}" if name in ("train-heads", "evaluate") else name
            yield Stage(item, tuple(words), (Path("params.yaml"), *reads), tuple(outs))


STAGES = tuple(_stages())


def with_needs(names: list[str]) -> list[Stage]:
    """Returns some stages and all that they need, in the order in which they run."""
    wanted: list[Stage] = []
    for stage in reversed(STAGES):
        if stage.name in names or any(other.needs(stage) for other in wanted):
            wanted.insert(0, stage)
    return wanted


class Project:
    """A folder of params.yaml and what stages wrote undisturbed, the archive on a server, and where downloads began."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True)
        write_params(folder / "params.yaml", CHANGES)
        corrections.write(folder / "data" / "corrections.csv", [])
        served, starts = _archive(folder / "images"), list[int]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Answers with the content or the rest of it, at the pace of a network."""
                start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
                starts.append(start)
                self.send_response(206 if start else 200)
                self.send_header("Content-Range", f"bytes {start}-{len(served) - 1}/{len(served)}")
                self.send_header("Content-Length", str(len(served) - start))
                self.end_headers()
                with contextlib.suppress(OSError):  # its reader was killed
                    for begin in range(start, len(served), SERVER_BLOCK_BYTES):
                        self.wfile.write(served[begin : begin + SERVER_BLOCK_BYTES])
                        time.sleep(SERVER_SECONDS)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
                """Says nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/caltech-101.zip"
        digest = artifacts.sha256_bytes(served)
        self.archive: dict[str, Any] = {"urls": [url], "size_bytes": len(served), "sha256": digest, "md5": None}
        self.folder, self.starts, self.context = folder, starts, runner.context()


def _archive(work: Path) -> bytes:
    """Returns a zip in Caltech-101's layout: a tar.gz of generated images, and something else."""
    generated.write_photos(work, IMAGES, sizes=((64, 48), (48, 64)))
    images, content = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=images, mode="w:gz") as tar:
        tar.add(work, "101_ObjectCategories")
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("caltech-101/101_ObjectCategories.tar.gz", images.getvalue())
        archive.writestr("caltech-101/Annotations.tar", np.random.default_rng(0).bytes(OTHER_BYTES))
    return content.getvalue()
