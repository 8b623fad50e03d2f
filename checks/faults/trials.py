"""One fault and what came of it: a plain rerun, its bytes against an undisturbed run's, losses and stale files."""

import json
import random
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from checks.faults import runner
from checks.faults.project import ROOT, Project, Stage
from stages.library.common import artifacts

PATIENCE_SECONDS = 300
BLOCK_BYTES = 4096
ROOM_BYTES = 256 << 20


@dataclass
class Outcome:
    """What a fault did.

    Attributes:
      hit: whether it met the stage while that ran; recovered: whether a plain rerun succeeded.
      different: whether an out had other bytes than the undisturbed run's at the end.
      lost: what had been kept and was computed or downloaded again, or was half an out.
      stale: files that an undisturbed run doesn't leave.
      unclean: where a stop or an error was not one line with the right exit code.
    """

    stage: str
    kind: str
    number: int
    hit: bool = False
    recovered: bool = False
    different: bool = False
    lost: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    unclean: str = ""

    @property
    def good(self) -> bool:
        return self.recovered and not (self.different or self.lost or self.stale or self.unclean)


@dataclass(frozen=True)
class Undisturbed:
    """A run without a fault: seconds, changes of files, hash by out, all paths, and (bytes, inodes) by folder."""

    seconds: float
    changes: int
    outs: dict[str, str]
    entries: set[str]
    sizes: dict[str, tuple[int, int]]


class Trial:
    """A folder of its own for a fault: `disk` (outs and TensorBoard's files), `cache` and `tmp`.

    Attributes:
      random: the numbers that decide about this fault.
      undisturbed: what the same stage does without it; only `measure` does without one.
    """

    def __init__(self, project: Project, stage: Stage, folder: Path, context: Any, seed: str):
        self.project, self.stage, self.folder, self._context = project, stage, folder, context
        self.random = random.Random(seed)  # noqa: S311 - it chooses moments
        self.undisturbed: Undisturbed
        self.mounted: list[Path] = []
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("disk/outs", "cache", "tmp"):
            (folder / name).mkdir(parents=True)

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def run(self, disk: Path | None = None, log: str = "disturbed", **injected: Any) -> runner.Run:
        """Returns the stage's run with its outs on `disk`, and with what is to be injected."""
        outs = (disk or self.disk) / "outs"
        return runner.Run(
            module=self.stage.module,
            options=self.stage.options(self.project.folder, outs),
            environment={"DECANT_CACHE": str(self.cache), "TMPDIR": str(self.folder / "tmp")},
            log=str(self.folder / log),
            archive=self.project.archive,
            watched=f"{self.folder}/",
            **injected,
        )

    def start(self, run: runner.Run) -> Any:
        """Starts a run and returns its process."""
        process = self._context.Process(target=runner.perform, args=(run,))
        process.start()
        return process

    def wait(self, process: Any) -> int | None:
        """Returns a run's exit code, minus the signal that ended it, or None where it hung."""
        process.join(PATIENCE_SECONDS)
        code: int | None = process.exitcode
        if code is None:
            process.kill()
            process.join()
        return code

    def printed(self, log: str, suffix: str) -> str:
        """Returns what a run wrote to its standard output ("out") or error ("err")."""
        return (self.folder / f"{log}.{suffix}").read_text(encoding="utf-8", errors="replace")

    def moment(self) -> float:
        """Returns a random moment of the run, seconds after its start."""
        return self.random.uniform(0.03, 1) * self.undisturbed.seconds

    def change(self) -> int:
        """Returns the number of a random change of the files."""
        return self.random.randint(1, max(self.undisturbed.changes, 1))

    def measure(self) -> Undisturbed:
        """Runs the stage undisturbed."""
        counted = self.folder / "changes"
        first = self._context.Process(target=int)  # it waits for the imports, which are not of the stage
        first.start()
        first.join()
        started = time.monotonic()
        code = self.wait(self.start(self.run(log="plain", counted=str(counted))))
        seconds = time.monotonic() - started
        if code:
            raise SystemExit(f"{self.stage.name} fails without a fault: {self.printed('plain', 'err')}")
        sizes = {name: _size(self.folder / name) for name in ("disk", "cache")}
        changes = int(counted.read_text(encoding="utf-8"))
        return Undisturbed(seconds, changes, contents(self.disk / "outs"), self.entries(), sizes)

    def place_outs(self) -> None:
        """Puts the outs of an earlier run where the stage writes."""
        for path in self.stage.paths(Path()):
            source, target = self.project.folder / path, self.disk / "outs" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)

    def half_outs(self) -> list[str]:
        """Returns the outs that are there and not as the undisturbed run's."""
        bad = []
        for path in self.stage.paths(Path()):
            found, prefix = self.disk / "outs" / path, str(path)
            now = contents(found) if found.is_dir() else {".": artifacts.sha256_file(found)} if found.exists() else None
            expected = {str(Path(name).relative_to(prefix)): digest for name, digest in self.undisturbed.outs.items()
                        if Path(name).is_relative_to(prefix)}  # fmt: skip
            if now is not None and now != expected:
                bad.append(f"half of {path}")
        return bad

    def kept(self) -> dict[str, Any]:
        """Returns what must not be lost: parts of features, finished epochs, bytes of a download."""
        states = [json.loads(path.read_text(encoding="utf-8")) for path in self.cache.glob("checkpoints/*/state.json")]
        return {
            "parts": {path.name for path in self.cache.glob("features/*/*.parquet")},
            "epochs": max((len(state["history"]) - 1 for state in states), default=0),
            "bytes": sum(path.stat().st_size for path in self.cache.glob("downloads/*.partial")),
        }

    def rerun(self, outcome: Outcome) -> None:
        """Runs the stage once more, plainly, and notes what is different, lost or stale."""
        kept = self.kept()
        outcome.recovered = self.wait(self.start(self.run(log="plain"))) == 0
        if not outcome.recovered:
            outcome.unclean += f" rerun: {self.printed('plain', 'err')[-2000:]}"
        self.compare(outcome)
        if not kept["parts"] <= self.kept()["parts"]:
            outcome.lost.append("parts of features")
        if kept["epochs"] and f"resuming after epoch {kept['epochs']} of" not in self.printed("plain", "out"):
            outcome.lost.append(f"{kept['epochs']} epochs")
        if 0 < kept["bytes"] < self.project.archive["size_bytes"] and self.project.starts[-1] != kept["bytes"]:
            outcome.lost.append(f"{kept['bytes']} bytes of the download")

    def compare(self, outcome: Outcome, disk: Path | None = None) -> None:
        """Notes differences and stale files."""
        outcome.different |= contents((disk or self.disk) / "outs") != self.undisturbed.outs
        outcome.stale += sorted(self.entries() - self.undisturbed.entries)

    def entries(self) -> set[str]:
        """Returns everything in outs, cache and tmp but parts of features, whose names say which images they hold."""
        found = (path for name in ("disk/outs", "cache", "tmp") for path in (self.folder / name).rglob("*"))
        names = (path.relative_to(self.folder) for path in found)
        return {str(name) for name in names if not name.match("cache/features/*/*.parquet")}

    def mount(self, path: Path, **options: object) -> None:
        """Puts an empty file system in memory over a folder, or sets the options of one that is there."""
        again = ["remount"] if path in self.mounted else []
        chosen = [*again, *(f"{key}={value}" if value != "" else key for key, value in options.items())]
        command = ["mount", "-t", "tmpfs", "-o", ",".join(chosen), "tmpfs", str(path)]
        subprocess.run(command, check=True, cwd=ROOT)
        if not again:
            self.mounted.append(path)

    def close(self) -> None:
        """Removes the folder."""
        for path in self.mounted:
            subprocess.run(["umount", str(path)], check=True)  # noqa: S607 - wherever it is
        shutil.rmtree(self.folder)


def contents(folder: Path) -> dict[str, str]:
    """Returns the sha256 of each file in a folder by its relative path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): artifacts.sha256_file(path) for path in files}


def _size(folder: Path) -> tuple[int, int]:
    """Returns the bytes, in whole blocks, and the inodes that a folder's content takes."""
    found = list(folder.rglob("*"))
    blocks = sum(-(-path.stat().st_size // BLOCK_BYTES) for path in found if path.is_file())
    return blocks * BLOCK_BYTES, len(found)
