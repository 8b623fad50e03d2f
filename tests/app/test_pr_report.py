"""app.pr_report on a real repository with two branches: what it shows, what it rejects, and when it fails."""

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from repository import PARAMS, RIDGE, SOFTMAX, tables

from app import experiments, train
from app.pull_request import comment, images
from app.pull_request.revisions import Revision
from stages.library.common.console import UserError
from tests import processes

# DVC's own, where it reads plots: an error there would be taken for one of the repository.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise AttributeError:DeprecationWarning")

COMMENT = Path("pr-report", "comment.md")
PAGE = (ROOT / "docs" / "pull-requests.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("head", ["workspace", "change"])
def test_it_shows_what_differs_in_a_branch_or_the_workspace(branches, pr_report, head):
    text = pr_report("--head", head)
    first, metrics, params = tables(text)
    rows = """file metric before after change
        metrics/tiny/ridge.json log_loss 0.1 0.05 -0.05
        metrics/tiny/ridge.json top1_accuracy 0.9 0.95 0.05
        metrics/tiny/softmax.json log_loss 0.2 0.3 0.1
        metrics/tiny/softmax.json top1_accuracy 0.8 0.7 -0.1"""
    assert first == [row.split() for row in rows.splitlines()]
    assert [SOFTMAX, "cross_validation.top1_accuracy.mean", "0.8", "0.7", "-0.1"] in metrics
    assert not [row for row in metrics if row[1] == "num_examples"]
    assert params[0] == ["file", "parameter", "before", "after"]
    assert [row[1:] for row in params[1:]] == [["ridge.accuracy", "0.9", "0.95"], ["softmax.accuracy", "0.8", "0.7"]]
    assert "4 plots differ." in text
    assert "pr-report" not in branches.git("status", "--porcelain")


def test_an_image_of_each_model_shows_both_sides(branches, pr_report):
    text = pr_report("--link", "https://a.b/c", plots=True)
    folder = branches.path / "pr-report"
    found = sorted(str(path.relative_to(folder)) for path in folder.glob("images/**/*.png"))
    assert found == [f"images/artifacts/evaluation/tiny/{head}/confusion.csv.png" for head in ("ridge", "softmax")]
    assert all(f"`{name}`" in text for name in found)
    assert "[files of this report](https://a.b/c)" in text
    with Image.open(folder / found[0], formats=("PNG",)) as pair:
        halves = np.split(np.asarray(pair)[images.HEADER_PX :], 2, axis=1)
    assert all(side.std() > 10 for side in halves)  # something is drawn
    assert (halves[0] != halves[1]).any()
    assert (folder / "plots" / "index.html").stat().st_size > 1000


def test_a_matrix_of_one_side_or_of_no_sense_or_lost_is_no_reason_to_fail(branches, pr_report, capsys):
    """The pull request wrote it."""
    (branches.path / "artifacts/evaluation/tiny/ridge/confusion.csv").unlink()
    (branches.path / "artifacts/evaluation/tiny/softmax/confusion.csv").write_text("actual,predicted\na,b\n")
    pr_report(plots=True)
    drawn = {path.parent.name for path in branches.path.glob("pr-report/images/**/*.png")}  # with the base alone
    assert drawn == {"ridge", "softmax"}
    assert "softmax/confusion.csv can't be drawn: KeyError" in capsys.readouterr().out
    shutil.rmtree(branches.path / ".dvc" / "cache")
    text = pr_report()
    assert "4 plots of `main` are neither in DVC's cache nor in a remote" in text
    assert "plots differ" not in text


@pytest.mark.parametrize("value", [float("inf"), 10**19, "x", None])
def test_a_table_that_can_not_be_drawn_is_left_out(tmp_path, capsys, value):
    """A plot may be JSON, whose numbers DVC takes as they are."""
    base = Revision("x", "y", "y", {}, frozenset(), {}, frozenset())
    rows = [{"actual": "a", "predicted": "b", "count": value}], {"template": "confusion_counts"}
    assert images.draw(tmp_path, ["a.csv"], base, replace(base, plots={"a.csv": rows})) == []
    assert capsys.readouterr().out.startswith("a.csv can't be drawn: ")


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("dvc.yaml", "stages: [", r"metrics of other \(.{7}\) can't be read: .*dvc.yaml"),
        (SOFTMAX, "{", rf"1 of 2 files with the metrics of other \(.{{7}}\) can't be read. {SOFTMAX}: .*corrupted"),
        ("params.yaml", "a: [", r"other \(.{7}\) can't be read: .*params.yaml"),
        (SOFTMAX, None, rf"1 of 2 files .* of other .* can't be read. {SOFTMAX}: .*No such file.* run: dvc fetch"),
        ("dvc.yaml", None, r"other \(.{7}\) has no metrics"),
    ],
)
def test_a_revision_that_cannot_be_read_is_an_error(branches, pr_report, path, content, reason):
    branches.git("checkout", "--quiet", "-b", "other", "main")
    branches.write(path, content or "")
    if content is None:
        branches.git("rm", "--quiet", "--force", path)
    branches.commit("unreadable")
    branches.git("checkout", "--quiet", "change")
    assert branches.dvc("metrics", "diff", "other", check=False).returncode == 0  # why this program reads for itself
    text = pr_report(base="other", broken=reason)
    assert text.startswith(comment.MARKER)
    assert "**Not compared:**" in text


def test_a_revision_that_git_does_not_know_gets_a_remedy(branches, pr_report, monkeypatch, tmp_path):
    for name in ("nosuch", "HEAD~99", "main..change", "--all", "main:dvc.yaml", "a b", ""):
        pr_report(f"--base={name}", broken=r"a revision must be .*Received: .*git fetch --all")
    branches.git("clone", "--quiet", "--depth", "1", f"file://{branches.path}", tmp_path / "shallow")
    monkeypatch.chdir(tmp_path / "shallow")
    pr_report(broken=r"shallow: run: git fetch --unshallow .*fetch-depth: 0")
    branches.git("clone", "--quiet", f"file://{branches.path}", tmp_path / "clone")
    monkeypatch.chdir(tmp_path / "clone")
    pr_report(broken=r"There is origin/main: give that, or run: git branch main origin/main")
    assert f"`{RIDGE}`" in pr_report(base="origin/main")
    monkeypatch.chdir(tmp_path)
    pr_report(broken="is no Git checkout .* Run: git init")
    branches.git("init", "--quiet", tmp_path)
    pr_report(broken="must be in a DVC repository")


def test_one_commit_under_two_names_has_no_difference_and_a_last_digit_is_one(branches, pr_report):
    text = pr_report("--head", "change", "--max-drop", "top1_accuracy=0", base="HEAD")
    assert all(f"No {what} changed." in text for what in ("metric", "parameter", "plot"))
    branches.metrics(RIDGE, log_loss=0.050001)
    text = pr_report(base=(commit := branches.git("rev-parse", "HEAD")))
    assert f"against `{commit[:7]}`\n" in text
    assert [RIDGE, "log_loss", "0.05", "0.050001", "1e-06"] in tables(text)[0]


def test_a_head_that_cannot_be_read_is_an_error_and_a_folder_of_somebody_else_is_left_alone(branches, pr_report):
    (branches.path / SOFTMAX).unlink()
    pr_report(broken=r"metrics of workspace .* can't be read.*run: dvc repro")
    branches.write("pr-report/thesis.tex", "everything")
    branches.write(COMMENT, "old")
    assert pr_report(broken=r"new, or an earlier report.*'thesis.tex'") == "old"


@pytest.mark.parametrize("path", [RIDGE, "dvc.lock", "params.yaml"])
def test_a_merge_conflict_is_called_so_by_each_command_that_reads_the_file(branches, pr_report, monkeypatch, path):
    branches.write(path, f"<<<<<<< HEAD\n{(branches.path / path).read_text()}=======\n>>>>>>> other\n")
    said = rf"{path} has the mark of a merge conflict in line 1, .* git checkout --ours or --theirs .*{path}\. Run"
    pr_report(broken=said)
    monkeypatch.setattr(sys, "argv", ["app"])
    for program in experiments, train:
        with pytest.raises(UserError, match=said):
            program.main()


def test_what_files_say_is_shown_as_text_folded_and_limited_to_what_github_takes(branches, pr_report):
    note = r'a_note: "a | b `c` </details> <img src=x> @everybody\nnext *line*"'
    branches.metrics(RIDGE, classes={f"class {number:05}": number for number in range(800)})
    branches.write("params.yaml", "\n".join([PARAMS, note, *(f"key{number}: {number}" for number in range(800))]))
    text = pr_report("--max-drop", "top1_accuracy=1")
    assert 20_000 < len(text) < 65_536
    assert "<summary>810 metrics changed</summary>" in text
    assert all(f"more by `dvc {what} diff main`." in text for what in ("metrics", "params"))
    assert {row[0] for row in tables(text)[1]} == {"file", RIDGE, SOFTMAX}  # scores of classes come last
    shown = "a │ b 'c' </details> <img src=x> @everybody next *line*"
    assert ["params.yaml", "a_note", "-", shown] in tables(text)[-1]
    assert all(line.count("@everybody") == line.count("`a │ b 'c'") for line in text.splitlines())


def test_the_program_ends_with_what_to_do_next(branches):
    program = sys.executable, "-m", "app.pr_report", "--base"
    done = branches.run(*program, "main", "--no-plots")
    assert done.stdout.splitlines()[-1].endswith("gh pr comment --body-file pr-report/comment.md")
    assert not (branches.path / "pr-report" / "images").exists()
    failed = branches.run(*program, "nosuch", check=False)
    assert (failed.returncode, failed.stderr[:26]) == (1, "error: a revision must be ")
    shutil.rmtree("pr-report")
    for link in ("javascript:alert(1)", "https://a.b/c) <img", "https:///c", "https://?c"):
        failed = branches.run(*program, "main", "--link", link, check=False)
        assert (failed.returncode, "--link must be a http" in failed.stderr) == (2, True)
    assert branches.run(*program, "workspace", check=False).returncode == 2
    assert not Path("pr-report").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", re.findall(r"^(?:make pr-report|python -m) .*", PAGE, re.M))
def test_a_documented_command_runs(branches, command):
    """What `make` would run is run here, for the repository has no Makefile."""
    if command.startswith("make "):
        command = processes.run("bash", "-c", command.replace("make", "make --dry-run", 1)).stdout.splitlines()[-1]
    done = branches.run("bash", "-c", f"{command} --no-plots", BASE="main", check=False)
    assert COMMENT.exists()
    gated = "--max-drop" in command  # softmax is worse by more than that
    assert (done.returncode, "gate: " in done.stderr) == (int(gated), gated)
