"""Metrics, parameters and plots of one Git revision or of the workspace, as DVC reads them.

`dvc metrics diff` exits 0 and shows a revision as empty where its dvc.yaml or one of its metrics files can't be read,
and shows nothing at all where both sides are the same commit. So each side is read by itself, and every error counts.
"""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dvc.compare import diff_table  # type: ignore[import-untyped]
from dvc.exceptions import DvcException  # type: ignore[import-untyped]
from dvc.repo import Repo  # type: ignore[import-untyped]
from dvc.utils.diff import format_dict  # type: ignore[import-untyped]
from dvc.utils.flatten import flatten  # type: ignore[import-untyped]

from stages.library.common.console import UserError

WORKSPACE = "workspace"
LISTS = ("backbones", "heads")  # in params.yaml; dvc.yaml has a matrix over each


@dataclass(frozen=True)
class Revision:
    """One side of a comparison.

    Attributes:
      name: as the user gave it.
      commit: its full hash; of the workspace that of HEAD.
      metrics: metrics file -> dotted key -> number or text.
      listed: names in the lists `backbones` and `heads` of params.yaml.
      plots: plot file -> (rows or the bytes of an image, its properties in dvc.yaml); those that could be read.
      missing_plots: plot files that could not be read.
    """

    name: str
    commit: str
    metrics: Mapping[str, Mapping[str, Any]]
    listed: frozenset[str]
    plots: Mapping[str, tuple[Any, Mapping[str, Any]]]
    missing_plots: tuple[str, ...]

    @property
    def title(self) -> str:
        """Name and short hash."""
        if self.commit.startswith(self.name):
            return self.commit[:7]
        return f"{self.name} ({self.commit[:7]}{' and what changed since' if self.name == WORKSPACE else ''})"


def open_repository() -> Repo:
    """Returns the DVC repository of the current folder.

    Raises:
      UserError: there is none, or it is not in Git.
    """
    try:
        repository = Repo()
    except DvcException as error:
        raise UserError(f"the current folder must be in a DVC repository: {error}") from error
    if _git("rev-parse", "--git-dir") is None:
        raise UserError("the current folder must be in a Git repository with the revisions to compare. Run: git init")
    return repository


def read(repository: Repo, name: str) -> Revision:
    """Reads one side.

    Args:
      repository: as `open_repository` gives it.
      name: a revision, or "workspace".

    Raises:
      UserError: Git doesn't know it, or its dvc.yaml, metrics or parameters can't be read, or it has no metrics.
    """
    commit = _resolve(name)
    content = _show(name, commit, repository.metrics.show, "metrics")
    # A file may hold one number and no key; DVC calls that key "".
    nested = {path: value if isinstance(value, dict) else {"": value} for path, value in sorted(content.items())}
    metrics = {path: {str(key): item for key, item in flatten(format_dict(values)).items()}
               for path, values in nested.items()}  # fmt: skip
    if not any(metrics.values()):
        raise UserError(
            f"{name} ({commit[:7]}) has no metrics, so nothing can be compared. Is it a commit of this pipeline, with "
            "`metrics:` in its dvc.yaml?"
        )
    params = _show(name, commit, repository.params.show, "parameters").get("params.yaml", {})
    lists = [params.get(key) for key in LISTS]
    listed = frozenset(str(item) for items in lists if isinstance(items, list) for item in items)
    return Revision(name, commit, metrics, listed, *_plots(repository, name, commit))


def differences(diff: Any, title: str, base: Revision, head: Revision) -> list[list[str]]:
    """Returns the rows that `dvc metrics diff` or `dvc params diff` prints, sorted.

    Args:
      diff: of the repository's metrics or params.
      title: "Metric" or "Param"; parameters have no column for the change.
      base: of each row's third cell.
      head: of its fourth.
    """
    found = diff(a_rev=base.commit, b_rev=_key(head.name, head.commit)).get("diff", {})
    precise = {"precision": 6, "round_digits": True} if title == "Metric" else {"show_changes": False}
    return sorted(list(map(str, row)) for row in diff_table(found, title, **precise))


def _resolve(name: str) -> str:
    """Returns the full hash of a revision's commit; the workspace counts as HEAD."""
    if commit := _commit("HEAD" if name == WORKSPACE else name):
        return commit
    if not name.startswith("-") and _commit(f"origin/{name}"):
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


def _key(name: str, commit: str) -> str:
    """Returns what DVC knows a revision by."""
    return WORKSPACE if name == WORKSPACE else commit


def _show(name: str, commit: str, show: Any, what: str) -> dict[str, Any]:
    """Returns file -> content, of all files of a kind; an unreadable one is an error, which DVC returns as a value."""
    found = show(revs=[commit], hide_workspace=False).get(_key(name, commit))
    if found is None:
        raise UserError(f"{name} ({commit[:7]}) has no DVC repository in this folder")
    if error := found.get("error"):
        raise UserError(f"the {what} of {name} ({commit[:7]}) can't be read: {error}")
    if failed := {path: file["error"] for path, file in found["data"].items() if "error" in file}:
        path, error = min(failed.items())
        remedy = "dvc repro" if name == WORKSPACE else "dvc fetch --all-commits, or commit what is missing there"
        raise UserError(
            f"{len(failed)} of {len(found['data'])} files with the {what} of {name} ({commit[:7]}) can't be read. "
            f"{path}: {error}. If it is missing, run: {remedy}"
        )
    return {path: file["data"] for path, file in found["data"].items()}


def _plots(repository: Repo, name: str, commit: str) -> tuple[dict[str, tuple[Any, dict[str, Any]]], tuple[str, ...]]:
    """Returns a revision's plots, and the files that can't be read: that an image is missing is no reason to fail."""
    key = _key(name, commit)
    found = repository.plots.show(revs=[key]).get(key, {})
    definitions, sources = found.get("definitions", {}), found.get("sources", {})
    if error := definitions.get("error") or sources.get("error"):
        raise UserError(f"the plots of {name} ({commit[:7]}) can't be read: {error!r}")
    files = sources.get("data", {})
    properties: dict[str, dict[str, Any]] = {}
    for definition in definitions.get("data", {}).values():
        properties |= definition.get("data", {})
    readable = {path: (file["data"], properties.get(path, {})) for path, file in files.items() if "data" in file}
    return readable, tuple(sorted(set(files) - set(readable)))
