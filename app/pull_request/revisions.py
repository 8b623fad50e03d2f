"""Metrics, parameters and plots of one Git revision or of the workspace, as DVC reads them.

`dvc metrics diff` exits 0 and shows a revision as empty where its dvc.yaml or one of its metrics files can't be read,
and shows nothing at all where both sides are the same commit. So each side is read by itself, and every error counts.
"""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.compare import diff_table  # type: ignore[import-untyped]
from dvc.exceptions import DvcException  # type: ignore[import-untyped]
from dvc.repo import Repo  # type: ignore[import-untyped]

from app import conflicts
from stages.library.common.console import UserError
from stages.library.report.leaderboard import flat

WORKSPACE = "workspace"


@dataclass(frozen=True)
class Revision:
    """One side of a comparison."""

    name: str  # as the user gave it
    commit: str  # its full hash; of the workspace that of HEAD
    key: str  # by which DVC knows it: the hash, or "workspace"
    metrics: Mapping[str, Mapping[str, Any]]  # by file and dotted key: numbers and texts
    listed: frozenset[str]  # backbones and heads in the lists of params.yaml, over which dvc.yaml has a matrix
    plots: Mapping[str, tuple[Any, Mapping[str, Any]]]  # by file: rows or an image's bytes, and properties in dvc.yaml
    missing_plots: frozenset[str]  # files that could not be read

    @property
    def title(self) -> str:
        """Name and short hash."""
        if self.commit.startswith(self.name):
            return self.commit[:7]
        return f"{self.name} ({self.commit[:7]}{' and what changed since' if self.name == WORKSPACE else ''})"


def open_repository() -> Repo:
    """Returns the DVC repository of the current folder; raises UserError where there is none."""
    try:
        return Repo()
    except DvcException as error:
        raise UserError(f"the current folder must be in a DVC repository: {error}") from error


def read(repository: Repo, name: str) -> Revision:
    """Reads a revision or the "workspace"; raises UserError where DVC can't read all of it, or it has no metrics."""
    commit = _resolve(name)
    if name == WORKSPACE:
        conflicts.reject(Path(repository.root_dir))
    key, side = name if name == WORKSPACE else commit, f"{name} ({commit[:7]})"
    content = _files(repository.metrics.show, key, "metrics", side)
    # A file may hold one number and no key; DVC calls that key "".
    metrics = {path: flat(file if isinstance(file, dict) else {"": file}) for path, file in sorted(content.items())}
    if not any(metrics.values()):
        pipeline = "Is it a commit of this pipeline, with `metrics:` in its dvc.yaml?"
        raise UserError(f"{side} has no metrics, so nothing can be compared. {pipeline}")
    params = _files(repository.params.show, key, "parameters", side).get("params.yaml", {})
    lists = [params.get(name) for name in ("backbones", "heads", "joined")]
    listed = frozenset(str(item) for items in lists if isinstance(items, list) for item in items)
    found = repository.plots.show(revs=[key]).get(key, {})
    properties: dict[str, dict[str, Any]] = {}
    for definition in _data(found.get("definitions", {}), "plots", side).values():
        properties |= definition.get("data", {})
    files = _data(found.get("sources", {}), "plots", side)
    plots = {path: (file["data"], properties.get(path, {})) for path, file in files.items() if "data" in file}
    return Revision(name, commit, key, metrics, listed, plots, frozenset(files.keys() - plots.keys()))


def differences(diff: Any, title: str, base: Revision, head: Revision) -> list[list[str]]:
    """Returns the rows that `dvc metrics diff` or `dvc params diff` prints, sorted; parameters have no change."""
    found = diff(a_rev=base.commit, b_rev=head.key).get("diff", {})
    precise = {"precision": 6, "round_digits": True} if title == "Metric" else {"show_changes": False}
    return sorted(list(map(str, row)) for row in diff_table(found, title, **precise))


def _resolve(name: str) -> str:
    if commit := _commit("HEAD" if name == WORKSPACE else name):
        return commit
    if _commit(f"origin/{name}"):
        remedy = f"There is origin/{name}: give that, or run: git branch {name} origin/{name}"
    elif _git("rev-parse", "--is-shallow-repository") == "true":
        remedy = "This clone is shallow: run: git fetch --unshallow (in GitHub's checkout action: fetch-depth: 0)"
    else:
        remedy = "Run: git fetch --all, and git branch --all to see what there is"
    raise UserError(f"a revision must be a branch, tag or commit that Git knows. Received: {name!r}. {remedy}")


def _commit(name: str) -> str | None:
    return None if name.startswith("-") else _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")


def _git(*arguments: str) -> str | None:
    """Returns what a Git command prints, or None where it fails."""
    command = ["git", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell, checked names
    return done.stdout.strip() if done.returncode == 0 else None


def _data(found: Mapping[str, Any], what: str, side: str) -> dict[str, Any]:
    """Returns what DVC has read; an error, which DVC returns as a value, is raised."""
    if error := found.get("error"):
        raise UserError(f"the {what} of {side} can't be read: {error}")
    return dict(found.get("data", {}))


def _files(show: Any, key: str, what: str, side: str) -> dict[str, Any]:
    """Returns file -> content, of all files of a kind."""
    files = _data(show(revs=[key], hide_workspace=False).get(key, {}), what, side)
    if failed := {path: file["error"] for path, file in files.items() if "error" in file}:
        path, error = min(failed.items())
        remedy = "dvc repro" if key == WORKSPACE else "dvc fetch --all-commits, or commit what is missing there"
        count = f"{len(failed)} of {len(files)} files with the {what} of {side} can't be read"
        raise UserError(f"{count}. {path}: {error}. If it is missing, run: {remedy}")
    return {path: file["data"] for path, file in files.items()}
