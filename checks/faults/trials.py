"""One fault and what came of it: a plain rerun, its bytes against an undisturbed run's, losses and stale files."""

import json
import random
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from checks.faults import runner
from checks.faults.project import TENSORBOARD, Project, Stage
from stages.library.common import artifacts

PATIENCE_SECONDS = 300
BLOCK_BYTES = 4096
PARTS = "cache/features/*/*.parquet"
ROOM = "size=256m,nr_inodes=10000"


@dataclass
class Outcome:
    """What a fault did to a stage."""

    stage: str
    kind: str
    seed: str
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
    """A run without a fault: seconds, changes of files, sha256 by path, (blocks, paths) by folder."""

    seconds: float
    changes: int
    entries: dict[str, str]
    usage: dict[str, tuple[int, int]]


class Trial:
    """A fault's own folder: the stage runs in `disk`, with `cache` and `tmp` beside it; `random` decides about it."""

    def __init__(self, project: Project, stage: Stage, folder: Path, kind: str = "none", seed: str = ""):
        self.project, self.stage, self.folder = project, stage, folder
        self.disk, self.cache, self.outcome = folder / "disk", folder / "cache", Outcome(stage.name, kind, seed)
        self.random = random.Random(seed)  # noqa: S311
        self.undisturbed: Undisturbed  # which `measure` does without
        self.mounted: list[str] = []
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("disk", "cache", "tmp"):
            (folder / name).mkdir(parents=True)
        self.place(stage.reads)

    def place(self, paths: Iterable[Path], disk: str = "disk") -> None:
        """Puts what earlier runs wrote undisturbed into the folder that the stage runs in."""
        for path in paths:
            source, target = self.project.folder / path, self.folder / disk / path
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)

    def run(self, disk: str = "disk", **injected: Any) -> dict[str, Any]:
        """Returns a run of the stage, with what is to be injected, as `runner.perform` takes it."""
        fixed = {"words": self.stage.words, "archive": self.project.archive}
        return {"folder": str(self.folder), "disk": disk} | fixed | injected

    def start(self, disk: str = "disk", **injected: Any) -> Any:
        process = self.project.context.Process(target=runner.perform, kwargs=self.run(disk, **injected))
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
        """Returns what the last run wrote: "disk.out" its standard output, "disk.err" its standard error."""
        return (self.folder / name).read_text(encoding="utf-8", errors="replace")

    def moment(self) -> float:
        """Returns a random moment of the run, seconds after its start."""
        return self.random.uniform(0.03, 1) * self.undisturbed.seconds

    def at_change(self, act: int | str) -> dict[str, Any]:
        """Returns what a run is to get at a random change of its files: a signal, or a jump of the clock."""
        return {"at_change": self.random.randint(1, max(self.undisturbed.changes, 1)), "act": act}

    def measure(self) -> Undisturbed:
        """Runs the stage undisturbed, and puts what it wrote into the project."""
        started = time.monotonic()
        code = self.wait(self.start())
        seconds = time.monotonic() - started
        if code:
            raise SystemExit(f"{self.stage.name} fails without a fault: {self.printed('disk.err')}")
        usage = {name: self.usage(name) for name in ("disk", "cache")}
        shutil.copytree(self.disk, self.project.folder, dirs_exist_ok=True)
        return Undisturbed(seconds, int(self.printed("disk.changes")), self.entries(), usage)

    def usage(self, name: str) -> tuple[int, int]:
        """Returns what a folder takes: blocks, and files and folders."""
        found = list((self.folder / name).rglob("*"))
        return sum(-(-path.stat().st_size // BLOCK_BYTES) for path in found if path.is_file()), len(found)

    def entries(self, disk: str = "disk") -> dict[str, str]:
        """Returns the paths in disk, cache and tmp, with the sha256 of the files in disk, else "".

        But not TensorBoard's, and no parts of features, whose names say which images they hold.
        """
        found = {}
        for folder, name in ((disk, "disk"), ("cache", "cache"), ("tmp", "tmp")):
            for path in (self.folder / folder).rglob("*"):
                relative = name / path.relative_to(self.folder / folder)
                if not relative.is_relative_to(f"disk/{TENSORBOARD}") and not relative.match(PARTS):
                    hashed = name == "disk" and path.is_file()
                    found[str(relative)] = artifacts.sha256_file(path) if hashed else ""
        return found

    def half_outs(self) -> list[str]:
        """Returns the outs that are there and not as the undisturbed run's."""
        differing = [Path(name) for name, _ in self.entries().items() ^ self.undisturbed.entries.items()]
        there = [path for path in self.stage.outs if (self.disk / path).exists()]
        return [f"half of {path}" for path in there if any(name.is_relative_to("disk" / path) for name in differing)]

    def kept(self) -> tuple[set[str], int, int]:
        """Returns what must not be lost: parts of features, finished epochs, bytes of a download."""
        states = [json.loads(path.read_text(encoding="utf-8")) for path in self.cache.glob("checkpoints/*/state.json")]
        epochs = max((len(state["history"]) - 1 for state in states), default=0)
        size_bytes = sum(path.stat().st_size for path in self.cache.glob("downloads/*.partial"))
        return {path.name for path in self.folder.glob(PARTS)}, epochs, size_bytes

    def rerun(self) -> None:
        """Runs the stage once more, plainly, and notes what is different, lost or stale."""
        (parts, epochs, size_bytes), outcome = self.kept(), self.outcome
        outcome.recovered = self.wait(self.start()) == 0
        if not outcome.recovered:
            outcome.unclean += f" rerun: {self.printed('disk.err')[-2000:]}"
        self.compare()
        if not parts <= self.kept()[0]:
            outcome.lost.append("parts of features")
        if epochs and f"resuming after epoch {epochs} of" not in self.printed("disk.out"):
            outcome.lost.append(f"{epochs} epochs")
        if 0 < size_bytes < self.project.archive["size_bytes"] and self.project.starts[-1] != size_bytes:
            outcome.lost.append(f"{size_bytes} bytes of the download")

    def compare(self, disk: str = "disk") -> None:
        found, expected = self.entries(disk), self.undisturbed.entries
        self.outcome.different |= any(found.get(name) != digest for name, digest in expected.items() if digest)
        self.outcome.stale += sorted(found.keys() - expected.keys())

    def mount(self, name: str, options: str) -> None:
        """Sets the options of a file system in memory over a folder; a new one gets what the stage reads."""
        folder = str(self.folder / name)
        if name not in self.mounted:
            command = ["mount", "-t", "tmpfs", "-o", ROOM, "tmpfs", folder]
            subprocess.run(command, check=True)
            self.mounted.append(name)
            self.place(self.stage.reads if name == "disk" else ())
        command = ["mount", "-o", f"remount,{options}", folder]
        subprocess.run(command, check=True)

    def close(self) -> None:
        for name in self.mounted:
            # Lazily, for a process that is ending may still be in it.
            subprocess.run(["umount", "--lazy", str(self.folder / name)], check=True)  # noqa: S607 - wherever it is
        shutil.rmtree(self.folder)
