"""Whether DVC and Git can work in this checkout as this user; if not, the reason and the remedy in one line."""

import getpass
import os
import subprocess
from pathlib import Path

import platformdirs

from stages.library.common import console
from stages.library.common.console import UserError


def check() -> None:
    """Raises UserError where DVC would fail; warns where only Git would, for training needs none of it."""
    _check_user()
    here = Path.cwd()
    if not os.access(here, os.W_OK) or (Path(".dvc").exists() and not os.access(".dvc", os.W_OK)):
        raise UserError(
            f"{here} belongs to another user and can't be written to. Clone it again as the user who trains"
        )
    _check_git()
    if said := foreign():
        console.say(f"warning: {said}", err=True)


def check_history() -> None:
    """Raises UserError where DVC or Git would not read the commits and experiments of this checkout."""
    _check_user()
    _check_git()
    if said := foreign():
        raise UserError(said)


def _check_user() -> None:
    try:
        platformdirs.user_config_path("dvc"), getpass.getuser()
    except (RuntimeError, KeyError, OSError) as error:  # a container that runs as a number without an account
        remedy = "Set both: export USER=me HOME=FOLDER, a folder that can be written to"
        raise UserError(f"the variable HOME or USER is missing, and this user has no account. {remedy}") from error


def _check_git() -> None:
    here = Path.cwd()
    if not any((folder / ".git").exists() for folder in (here, *here.parents)):
        raise UserError(f"{here} is no Git checkout (a ZIP has none of Git's files), and DVC needs one. Run: git init")


def foreign() -> str:
    """Returns why Git, and what of DVC reads its history, refuses to work in a checkout of another owner; "" if not."""
    try:
        command = ["git", "rev-parse", "--git-dir"]
        environment = os.environ | {"LC_ALL": "C"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        return ""
    if "dubious ownership" not in done.stderr:
        return ""
    remedy = f"git config --global --add safe.directory {Path.cwd()}"
    return f"this checkout is another user's, so Git doesn't read it. Run: {remedy}"
