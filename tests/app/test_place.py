"""app.place: what stops DVC or Git is named with its remedy, in one line."""

import os
import shutil
import sys

import pytest

from app import place
from stages.library.common.console import UserError
from tests import processes


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout, which is the current folder, of a user who has an account or not."""
    folder = tmp_path / "checkout"
    (folder / ".dvc").mkdir(parents=True)
    processes.run("git", "init", "--quiet", cwd=folder, **processes.GIT)
    monkeypatch.chdir(folder)
    return folder


def wrong(match, checks=(place.check, place.check_history)):
    for check in checks:
        with pytest.raises(UserError, match=match) as error:
            check()
        assert "\n" not in str(error.value)


def no_account(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")


def test_nothing_is_said_of_a_good_place(checkout, capsys):
    place.check()
    place.check_history()
    assert capsys.readouterr() == ("", "")


def test_a_user_without_an_account_needs_just_what_the_line_says(checkout, monkeypatch, tmp_path):
    monkeypatch.setattr("pwd.getpwuid", no_account)
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    wrong(r"HOME or USER is missing.*export USER=me HOME=FOLDER")
    monkeypatch.setenv("HOME", str(tmp_path))
    wrong("HOME or USER is missing")
    monkeypatch.setenv("USER", "me")
    place.check()


def test_what_cannot_be_written_to_or_has_no_history_is_named(checkout, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: str(path) != ".dvc")
        wrong("belongs to another user and can't be written to. Clone it again", [place.check])
        place.check_history()
    shutil.rmtree(checkout / ".git")
    wrong("is no Git checkout .* Run: git init")


def test_a_checkout_of_another_owner_is_trained_in_with_a_warning_and_has_no_experiments(checkout, monkeypatch, capsys):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    remedy = f"another user's, so Git doesn't read it. Run: git config --global --add safe.directory {checkout}"
    place.check()
    assert capsys.readouterr().err == f"warning: this checkout is {remedy}\n"
    for program in [["app.experiments"], ["app.pr_report", "--base", "main"]]:
        done = processes.run(sys.executable, "-m", *program, cwd=checkout, check=False, PYTHONPATH=processes.ROOT,
                             GIT_TEST_ASSUME_DIFFERENT_OWNER="1")  # fmt: skip
        assert (done.returncode, done.stderr, done.stdout) == (1, f"error: this checkout is {remedy}\n", "")


@pytest.mark.parametrize("program", [["app.experiments"], ["app.pr_report", "--base", "main"], ["app.train"]])
def test_a_place_where_dvc_cannot_run_is_one_line_of_each_program(checkout, program):
    """Before DVC is imported, which fails without a home."""
    shutil.rmtree(checkout / ".git")
    done = processes.run(sys.executable, "-m", *program, cwd=checkout, check=False, PYTHONPATH=processes.ROOT)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: {checkout} is no Git checkout (a ZIP has none of Git's files), and DVC needs one. Run: git init\n"
    )
