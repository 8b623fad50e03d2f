"""One fault and what came of it: a plain rerun, its bytes against an undisturbed run's, losses and stale files."""

import contextlib
import json
import random
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from checks.faults import runner
from checks.faults.project import Project, Stage
from stages.library.common import artifacts

PATIENCE_SECONDS = 300
BLOCK_BYTES = 4096


@dataclass
class Outcome:
    """What a fault did to a stage."""

    stage: str
    kind: str
    number: int
    hit: bool = False  # it met the stage while that ran
    recovered: bool = False  # a plain rerun succeeded
    different: bool = False  # an out had other bytes than the undisturbed run's at the end
    lost: list[str] = field(default_factory=list)  # was kept and computed or downloaded again, or was half an out
    stale: list[str] = field(default_factory=list)  # files that an undisturbed run doesn't leave
    unclean: str = ""  # a stop or an error that was not one line with the right exit code

    @property
    def good(self) -> bool:
        return self.recovered and not (self.different or self.lost or self.stale or self.unclean)


@dataclass(frozen=True)
class Undisturbed:
    """A run without a fault: seconds, changes of files, hash by out, all paths, (bytes in blocks, inodes) by folder."""

    seconds: float
    changes: int
    outs: dict[str, str]
    entries: set[str]
    sizes: dict[str, tuple[int, int]]


class Trial:
    """A fault's own folder with `disk` (outs and TensorBoard's files), `cache` and `tmp`; `random` decides about it."""

    def __init__(self, project: Project, stage: Stage, folder: Path, context: Any, outcome: Outcome, seed: int = 0):
        self.project, self.stage, self.folder, self._context = project, stage, folder, context
        self.disk, self.cache, self.outcome = folder / "disk", folder / "cache", outcome
        self.random = random.Random(f"{seed} {outcome.stage} {outcome.kind} {outcome.number}")  # noqa: S311
        self.undisturbed: Undisturbed  # which `measure` does without
        self.mounted: list[str] = []
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("disk/outs", "cache", "tmp"):
            (folder / name).mkdir(parents=True)

    def run(self, name: str = "disturbed", **injected: Any) -> dict[str, Any]:
        """Returns a run of the stage, of which the one named "second" has other outs, with what is to be injected."""
        outs = self.folder / ("second" if name == "second" else "disk") / "outs"
        with contextlib.suppress(OSError):  # as on a file system that has no room for it
            outs.mkdir(parents=True, exist_ok=True)
        options = [part.format(project=self.project.folder, outs=outs) for part in self.stage.options]
        about = {"folder": str(self.folder), "name": name, "archive": self.project.archive}
        return injected | {"module": self.stage.module, "options": options} | about

    def start(self, name: str = "disturbed", **injected: Any) -> Any:
        process = self._context.Process(target=runner.perform, kwargs=self.run(name, **injected))
        process.start()
        return process

    def wait(self, process: Any) -> int | None:
        """Returns a run's exit code, minus the signal that ended it, or None where it hung."""
        process.join(PATIENCE_SECONDS)
        code: int | None = process.exitcode
        process.kill()
        process.join()
        return code

    def printed(self, name: str) -> str:
        """Returns what a run wrote: "plain.out" its standard output, "plain.err" its standard error."""
        return (self.folder / name).read_text(encoding="utf-8", errors="replace")

    def moment(self) -> float:
        """Returns a random moment of the run, seconds after its start."""
        return self.random.uniform(0.03, 1) * self.undisturbed.seconds

    def at_change(self, act: int | str) -> dict[str, Any]:
        """Returns what a run is to get at a random change of its files: a signal, or a jump of the clock."""
        return {"at_change": self.random.randint(1, max(self.undisturbed.changes, 1)), "act": act}

    def measure(self) -> Undisturbed:
        first = self._context.Process(target=int)  # it waits for the imports, which are not of the stage
        first.start()
        first.join()
        started = time.monotonic()
        code = self.wait(self.start("plain"))
        seconds = time.monotonic() - started
        if code:
            raise SystemExit(f"{self.stage.name} fails without a fault: {self.printed('plain.err')}")
        sizes = {}
        for name in ("disk", "cache"):
            found = list((self.folder / name).rglob("*"))
            blocks = sum(-(-path.stat().st_size // BLOCK_BYTES) for path in found if path.is_file())
            sizes[name] = blocks * BLOCK_BYTES, len(found)
        return Undisturbed(seconds, int(self.printed("plain.changes")), self.outs(), self.entries(), sizes)

    def outs(self, disk: str = "disk") -> dict[str, str]:
        """Returns the sha256 of each file of the outs by its relative path."""
        folder = self.folder / disk / "outs"
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {str(path.relative_to(folder)): artifacts.sha256_file(path) for path in files}

    def place_outs(self) -> None:
        for path in self.stage.paths("outs"):
            source, target = self.project.folder / path, self.disk / "outs" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)

    def half_outs(self) -> list[str]:
        """Returns the outs that are there and not as the undisturbed run's."""
        differing = {name for name, _ in self.outs().items() ^ self.undisturbed.outs.items()}
        there = [path for path in self.stage.paths("outs") if (self.disk / "outs" / path).exists()]
        return [f"half of {path}" for path in there if any(Path(name).is_relative_to(path) for name in differing)]

    def kept(self) -> dict[str, Any]:
        """Returns what must not be lost: parts of features, finished epochs, bytes of a download."""
        states = [json.loads(path.read_text(encoding="utf-8")) for path in self.cache.glob("checkpoints/*/state.json")]
        return {
            "parts": {path.name for path in self.cache.glob("features/*/*.parquet")},
            "epochs": max((len(state["history"]) - 1 for state in states), default=0),
            "bytes": sum(path.stat().st_size for path in self.cache.glob("downloads/*.partial")),
        }

    def rerun(self) -> None:
        """Runs the stage once more, plainly, and notes what is different, lost or stale."""
        kept, outcome = self.kept(), self.outcome
        outcome.recovered = self.wait(self.start("plain")) == 0
        if not outcome.recovered:
            outcome.unclean += f" rerun: {self.printed('plain.err')[-2000:]}"
        self.compare()
        if not kept["parts"] <= self.kept()["parts"]:
            outcome.lost.append("parts of features")
        if kept["epochs"] and f"resuming after epoch {kept['epochs']} of" not in self.printed("plain.out"):
            outcome.lost.append(f"{kept['epochs']} epochs")
        if 0 < kept["bytes"] < self.project.archive["size_bytes"] and self.project.starts[-1] != kept["bytes"]:
            outcome.lost.append(f"{kept['bytes']} bytes of the download")

    def compare(self, disk: str = "disk") -> None:
        self.outcome.different |= self.outs(disk) != self.undisturbed.outs
        self.outcome.stale += sorted(self.entries() - self.undisturbed.entries)

    def entries(self) -> set[str]:
        """Returns everything in outs, cache and tmp but parts of features, whose names say which images they hold."""
        found = (path for name in ("disk/outs", "cache", "tmp") for path in (self.folder / name).rglob("*"))
        names = (path.relative_to(self.folder) for path in found)
        return {str(name) for name in names if not name.match("cache/features/*/*.parquet")}

    def mount(self, name: str, options: str) -> None:
        """Puts an empty file system in memory over a folder, or sets the options of one that is there."""
        again = "remount," if name in self.mounted else ""
        command = ["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", str(self.folder / name)]
        subprocess.run(command, check=True)
        if not again:
            self.mounted.append(name)

    def close(self) -> None:
        for name in self.mounted:
            subprocess.run(["umount", str(self.folder / name)], check=True)  # noqa: S607 - wherever it is
        shutil.rmtree(self.folder)
