"""app.pr_report on a real repository with two branches: what it shows, what it rejects, and when it fails."""

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from markdown_it import MarkdownIt
from PIL import Image
from repository import DVC_YAML, PARAMS, Repository, made

from app import pr_report
from app.pull_request import comment, images
from app.pull_request.revisions import Revision
from stages.library.common.console import UserError

# DVC's own, where it reads plots: an error there would be taken for one of the repository.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise AttributeError:DeprecationWarning")

SOFTMAX, RIDGE = "metrics/tiny/softmax.json", "metrics/tiny/ridge.json"


@pytest.fixture(scope="module")
def two_branches(tmp_path_factory):
    """Branch `change` makes ridge better and softmax worse; it is checked out, and both are run and committed."""
    repository = made(tmp_path_factory.mktemp("two") / "branches")
    repository.git("checkout", "--quiet", "-b", "change")
    repository.write("params.yaml", PARAMS.replace("0.9", "0.95").replace("0.8", "0.7"))
    repository.dvc("repro", "--quiet")
    repository.commit("other accuracies")
    return repository


@pytest.fixture
def branches(two_branches, tmp_path, monkeypatch):
    """A copy of it, as current folder."""
    copy = Repository(tmp_path / "copy")
    shutil.copytree(two_branches.path, copy.path, symlinks=True)
    monkeypatch.chdir(copy.path)
    return copy


@pytest.fixture
def report(monkeypatch):
    """Runs the program as `report(*arguments)`, without images unless asked for; returns the comment."""

    def run(*arguments, plots=False):
        options = [] if plots else ["--no-plots"]
        monkeypatch.setattr(sys, "argv", ["app.pr_report", *map(str, arguments), *options])
        pr_report.main()
        return Path("pr-report", "comment.md").read_text(encoding="utf-8")

    return run


def tables(text):
    """Returns the tables of a Markdown text as lists of rows of cells, as a reader of Markdown sees them."""
    found: list[list[list[str]]] = []
    in_cell = False
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("td_open", "th_open"):
            in_cell = True
        elif token.type == "inline" and in_cell:
            found[-1][-1].append("".join(part.content for part in token.children or ()))
            in_cell = False
    return found


@pytest.mark.parametrize("head", ["workspace", "change"])
def test_it_shows_what_differs_in_a_branch_or_the_workspace(branches, report, head):
    text = report("--base", "main", "--head", head)
    first, metrics, params = tables(text)
    assert first == [
        ["file", "metric", "before", "after", "change"],
        [RIDGE, "log_loss", "0.1", "0.05", "-0.05"],
        [RIDGE, "top1_accuracy", "0.9", "0.95", "0.05"],
        [SOFTMAX, "log_loss", "0.2", "0.3", "0.1"],
        [SOFTMAX, "top1_accuracy", "0.8", "0.7", "-0.1"],
    ]
    assert [SOFTMAX, "cross_validation.top1_accuracy.mean", "0.8", "0.7", "-0.1"] in metrics
    assert not [row for row in metrics if row[1] == "num_examples"]
    assert params == [
        ["file", "parameter", "before", "after"],
        ["params.yaml", "ridge.accuracy", "0.9", "0.95"],
        ["params.yaml", "softmax.accuracy", "0.8", "0.7"],
    ]
    assert "4 plots differ." in text
    assert "pr-report" not in branches.git("status", "--porcelain")


def test_an_image_of_each_model_shows_both_sides(branches, report):
    text = report("--base", "main", "--link", "https://a.b/c", plots=True)
    folder = branches.path / "pr-report"
    found = sorted(str(path.relative_to(folder)) for path in folder.glob("images/**/*.png"))
    assert found == [f"images/artifacts/evaluation/tiny/{head}/confusion.csv.png" for head in ("ridge", "softmax")]
    assert all(f"`{name}`" in text for name in found)
    assert "[files of this report](https://a.b/c)" in text
    with Image.open(folder / found[0], formats=("PNG",)) as pair:
        lefts = 0, pair.width // 2 + images.GAP_PX // 2
        boxes = [(left, images.HEADER_PX, left + pair.width // 3, pair.height) for left in lefts]
        sides = [np.asarray(pair.crop(box)) for box in boxes]
    assert all(side.std() > 10 for side in sides)  # something is drawn
    assert (sides[0] != sides[1]).any()
    assert (folder / "plots" / "index.html").stat().st_size > 1000


def test_a_matrix_of_one_side_or_of_no_sense_is_no_reason_to_fail(branches, report, capsys):
    """The pull request wrote it."""
    (branches.path / "artifacts/evaluation/tiny/ridge/confusion.csv").unlink()
    (branches.path / "artifacts/evaluation/tiny/softmax/confusion.csv").write_text("actual,predicted\na,b\n")
    report("--base", "main", plots=True)
    drawn = {path.parent.name for path in branches.path.glob("pr-report/images/**/*.png")}  # with the base alone
    assert drawn == {"ridge", "softmax"}
    assert "softmax/confusion.csv can't be drawn: KeyError" in capsys.readouterr().out


def test_plots_that_dvc_lost_are_said_to_be_missing(branches, report):
    shutil.rmtree(branches.path / ".dvc" / "cache")
    text = report("--base", "main")
    assert "4 plots of `main` are neither in DVC's cache nor in a remote" in text
    assert "plots differ" not in text


def test_a_gate_passes_and_its_metric_is_among_the_first(branches, report):
    key = "cross_validation.top1_accuracy.mean"
    # Exactly what the first fell by, in decimals and not in floats.
    gates = ("--max-drop", "top1_accuracy=0.1", "--max-drop", f"{key}=0.2", "--max-rise", "log_loss=0.1")
    text = report("--base", "main", *gates)
    assert "**Gate passed:**" in text
    assert [RIDGE, key, "0.9", "0.95", "0.05"] in tables(text)[0]


def test_a_gate_that_fails_names_model_metric_and_values(branches, report, capsys):
    with pytest.raises(UserError, match="2 gates were broken"):
        report("--base", "main", "--max-drop", "top1_accuracy=0.01", "--max-rise", "log_loss=0.05")
    expected = [
        f"{SOFTMAX}: top1_accuracy fell from 0.8 to 0.7, by 0.1; allowed: 0.01",
        f"{SOFTMAX}: log_loss rose from 0.2 to 0.3, by 0.1; allowed: 0.05",
    ]
    assert capsys.readouterr().err.splitlines() == [f"gate: {line}" for line in expected]
    text = (branches.path / "pr-report" / "comment.md").read_text(encoding="utf-8")
    assert all(f"- `{line}`" in text for line in expected)


def test_a_metric_that_is_no_number_any_more_fails_the_gate(branches, report, capsys):
    branches.metrics(RIDGE, top1_accuracy=float("nan"))
    branches.metrics(SOFTMAX, top1_accuracy="good")
    with pytest.raises(UserError, match="2 gates were broken"):
        report("--base", "main", "--max-drop", "top1_accuracy=1")
    assert "fell from 0.9 to nan" in (errors := capsys.readouterr().err)
    assert f"{SOFTMAX}: top1_accuracy was 0.8 and is gone" in errors


def test_a_model_that_vanished_fails_the_gate_unless_params_no_longer_lists_it(branches, report, capsys):
    (branches.path / SOFTMAX).unlink()
    branches.write("dvc.yaml", DVC_YAML.replace("head: ${heads}", "head: [ridge]"))
    assert [SOFTMAX, "top1_accuracy", "0.8", "-", "-"] in tables(report("--base", "main"))[0]
    with pytest.raises(UserError, match="a gate was broken"):
        report("--base", "main", "--max-drop", "top1_accuracy=0.01")
    assert f"gate: {SOFTMAX}: its metrics are gone, and params.yaml still lists" in capsys.readouterr().err
    branches.write("params.yaml", PARAMS.replace("[ridge, softmax]", "[ridge]"))
    text = report("--base", "main", "--max-drop", "top1_accuracy=0.01")
    assert f"may fall by at most 0.01`. Not compared, for the pipeline no longer makes them: `{SOFTMAX}`." in text
    assert f"{SOFTMAX} is not compared" in capsys.readouterr().out


SCRATCH = """\
  evaluate-scratch:
    cmd: touch metrics/scratch.json
    metrics: [{metrics/scratch.json: {cache: false}}]
"""


def test_a_stage_deleted_from_dvc_yaml_takes_its_model_along(branches, report, capsys):
    """As `scratch` and `finetuned`, which stand in no list of params.yaml."""
    branches.write("dvc.yaml", DVC_YAML + SCRATCH)
    branches.write("metrics/scratch.json", '{"top1_accuracy": 0.5}')
    branches.commit("a stage more")
    branches.git("branch", "with-scratch")
    branches.write("dvc.yaml", DVC_YAML)
    (branches.path / "metrics" / "scratch.json").unlink()
    text = report("--base", "with-scratch", "--max-drop", "top1_accuracy=0.01")
    assert "**Gate passed:**" in text
    assert "no longer makes them: `metrics/scratch.json`" in text
    assert "metrics/scratch.json is not compared" in capsys.readouterr().out


def test_a_gate_with_nothing_left_to_compare_fails(branches, report, capsys):
    branches.write("params.yaml", PARAMS.replace("[tiny]", "[other]"))
    for head in ("ridge", "softmax"):
        branches.write(f"metrics/other/{head}.json", '{"top1_accuracy": 0.1}')
    with pytest.raises(UserError, match="a gate was broken"):
        report("--base", "main", "--max-drop", "top1_accuracy=0.01")
    assert f"top1_accuracy: nothing is left to compare; the pipeline no longer makes {RIDGE}" in capsys.readouterr().err


@pytest.fixture(scope="module")
def unreadable(two_branches, tmp_path_factory):
    """A copy with a branch for each way in which metrics can't be read; `dvc metrics diff` calls none an error."""
    copy = Repository(tmp_path_factory.mktemp("unreadable") / "copy")
    shutil.copytree(two_branches.path, copy.path, symlinks=True)
    changes = {
        "no-pipeline": ("dvc.yaml", "stages: ["),
        "no-json": (SOFTMAX, "{"),
        "no-params": ("params.yaml", "a: ["),
    }
    for name, (path, text) in changes.items():
        copy.git("checkout", "--quiet", "-b", name, "main")
        copy.write(path, text)
        copy.commit(name)
    copy.git("checkout", "--quiet", "-b", "no-file", "main")
    copy.git("rm", "--quiet", SOFTMAX)
    copy.commit("no file")
    copy.git("checkout", "--quiet", "--orphan", "no-metrics")
    copy.git("rm", "--quiet", "-r", "--cached", ".")
    copy.git("commit", "--quiet", "--allow-empty", "--message", "empty")
    copy.git("checkout", "--quiet", "--force", "change")
    return copy


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        ("no-pipeline", r"metrics of no-pipeline \(.{7}\) can't be read: .*dvc.yaml"),
        ("no-json", rf"1 of 2 files with the metrics of no-json \(.{{7}}\) can't be read. {SOFTMAX}: .*corrupted"),
        ("no-params", r"no-params \(.{7}\) can't be read: .*params.yaml"),
        ("no-file", rf"1 of 2 files .* of no-file .* can't be read. {SOFTMAX}: .*No such file.* run: dvc fetch"),
        ("no-metrics", r"no-metrics \(.{7}\) has no metrics"),
    ],
)
def test_a_revision_that_cannot_be_read_is_an_error(unreadable, report, monkeypatch, base, reason):
    monkeypatch.chdir(unreadable.path)
    assert unreadable.dvc("metrics", "diff", base, check=False).returncode == 0  # why this program reads for itself
    with pytest.raises(UserError, match=reason):
        report("--base", base)
    text = (unreadable.path / "pr-report" / "comment.md").read_text(encoding="utf-8")
    assert text.startswith(comment.MARKER)
    assert "**Not compared:**" in text


def test_a_revision_that_git_does_not_know_is_an_error(branches, report):
    for name in ("nosuch", "HEAD~99", "main..change", "--all", "main:dvc.yaml", "a b", ""):
        with pytest.raises(UserError, match=r"a revision must be .*Received: .*git fetch --all"):
            report(f"--base={name}")


def test_a_clone_gets_the_remedy(branches, report, monkeypatch, tmp_path):
    branches.git("clone", "--quiet", "--depth", "1", f"file://{branches.path}", tmp_path / "shallow")
    monkeypatch.chdir(tmp_path / "shallow")
    with pytest.raises(UserError, match=r"shallow: run: git fetch --unshallow .*fetch-depth: 0"):
        report("--base", "main")
    branches.git("clone", "--quiet", f"file://{branches.path}", tmp_path / "clone")
    monkeypatch.chdir(tmp_path / "clone")
    with pytest.raises(UserError, match=r"There is origin/main: give that, or run: git branch main origin/main"):
        report("--base", "main")
    assert f"`{RIDGE}`" in report("--base", "origin/main")


@pytest.mark.parametrize("value", [float("inf"), 10**19, "x", None])
def test_a_table_that_can_not_be_drawn_is_left_out(tmp_path, capsys, value):
    """A plot may be JSON, whose numbers DVC takes as they are."""
    base = Revision("x", "y", {}, frozenset(), {}, ())
    rows = [{"actual": "a", "predicted": "b", "count": value}], {"template": "confusion_counts"}
    assert images.draw(tmp_path, ["a.csv"], base, replace(base, plots={"a.csv": rows})) == []
    assert capsys.readouterr().out.startswith("a.csv can't be drawn: ")


def test_outside_of_a_repository(report, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="must be in a DVC repository"):
        report("--base", "main")


def test_the_same_commit_under_two_names_has_no_difference(branches, report):
    text = report("--base", "HEAD", "--head", "change", "--max-drop", "top1_accuracy=0")
    assert "No metric changed." in text
    assert "No parameter changed." in text
    assert "No plot changed." in text


def test_a_change_in_the_last_digit_that_metrics_have_is_shown(branches, report):
    branches.metrics(RIDGE, log_loss=0.050001)
    text = report("--base", (commit := branches.git("rev-parse", "HEAD")))
    assert f"against `{commit[:7]}`\n" in text
    assert [RIDGE, "log_loss", "0.05", "0.050001", "1e-06"] in tables(text)[0]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--max-drop", "top1_accuracy"], r"--max-drop must be METRIC=AMOUNT .*Received: 'top1_accuracy'"),
        (["--max-drop", "=0.1"], "must be METRIC=AMOUNT"),
        (["--max-drop", "top1_accuracy=-0.1"], "must be METRIC=AMOUNT"),
        (["--max-drop", "top1_accuracy=nan"], "must be METRIC=AMOUNT"),
        (["--max-rise", "log_loss=1%"], r"e.g. --max-rise log_loss=0.01. Received: 'log_loss=1%'"),
        (["--max-drop", "log_loss=0.1"], r"forbid that log_loss gets better. Write: --max-rise log_loss=0.1"),
        (["--max-rise", "top1_accuracy=0.1"], r"Write: --max-drop top1_accuracy=0.1"),
        (["--max-drop", "num_examples=0", "--max-rise", "num_examples=0"], "once. Received twice: num_examples"),
        (["--max-drop", "top1_acuracy=0.1"], r"must name a numeric metric of main.*'top1_acuracy'.*top1_accuracy"),
        (["--max-drop", "mean_class_accuracy=0.01"], "`mean_class_accuracy` is now `balanced_accuracy`"),
    ],
)
def test_gates_are_validated(branches, report, arguments, reason):
    with pytest.raises(UserError, match=reason):
        report("--base", "main", *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--base", "workspace"],
        ["--base", "main", "--link", "javascript:alert(1)"],
        ["--base", "main", "--link", "https://a.b/c) <img"],
    ],
)
def test_a_wrong_command_line_exits_2(branches, report, arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        report(*arguments)
    assert not (branches.path / "pr-report").exists()


def test_a_head_that_cannot_be_read_is_an_error_and_a_folder_of_somebody_else_is_left_alone(branches, report):
    (branches.path / SOFTMAX).unlink()
    with pytest.raises(UserError, match=r"metrics of workspace .* can't be read.*run: dvc repro"):
        report("--base", "main")
    branches.write("pr-report/thesis.tex", "everything")
    branches.write("pr-report/comment.md", "old")
    with pytest.raises(UserError, match=r"new, or an earlier report.*'thesis.tex'"):
        report("--base", "main")
    assert (branches.path / "pr-report" / "comment.md").read_text() == "old"


def test_what_files_say_is_shown_as_text(branches, report):
    hostile = "a | b `c` </details> <img src=x> @everybody\\nnext *line*"
    branches.write("params.yaml", PARAMS + f'note: "{hostile}"\n')
    text = report("--base", "main")
    ((file, key, before, after),) = [row for row in tables(text)[-1] if row[1] == "note"]
    assert (file, key, before) == ("params.yaml", "note", "-")
    assert after == "a │ b 'c' </details> <img src=x> @everybody next *line*"
    assert all(line.count("@everybody") == line.count("`a │ b 'c'") for line in text.splitlines())


def test_many_metrics_are_folded_and_limited_to_what_github_takes(branches, report):
    branches.metrics(RIDGE, classes={f"class {number:05}": number for number in range(800)})
    branches.write("params.yaml", PARAMS + "".join(f"key{number}: {number}\n" for number in range(800)))
    text = report("--base", "main", "--max-drop", "top1_accuracy=1")
    assert 20_000 < len(text) < 65_536
    assert "<summary>810 metrics changed</summary>" in text
    assert "more by `dvc metrics diff main`." in text
    assert "more by `dvc params diff main`." in text


def test_help_fits_a_screen_and_a_program_ends_with_what_to_do_next(branches):
    shown = branches.run(sys.executable, "-m", "app.pr_report", "--help", COLUMNS="80").stdout.splitlines()
    assert len(shown) <= 24
    assert max(map(len, shown)) <= 80
    done = branches.run(sys.executable, "-m", "app.pr_report", "--base", "main", "--no-plots")
    assert done.stdout.splitlines()[-1].endswith("gh pr comment --body-file pr-report/comment.md")
    assert not (branches.path / "pr-report" / "images").exists()
    failed = branches.run(sys.executable, "-m", "app.pr_report", "--base", "nosuch", check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: a revision must be")


def documented():
    """Returns the commands of docs/pull-requests.md."""
    text = (ROOT / "docs" / "pull-requests.md").read_text(encoding="utf-8")
    return [line for block in re.findall(r"^```sh\n(.*?)```", text, re.M | re.S) for line in block.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("command", documented())
def test_a_documented_command_runs(branches, command):
    """What `make` would run is run here, for the repository has no Makefile."""
    if command.startswith("make "):
        shown = Repository(ROOT).run("bash", "-c", command.replace("make", "make --dry-run", 1)).stdout
        command = shown.splitlines()[-1]
        assert "python -m app.pr_report" in command
    done = branches.run("bash", "-c", f"{command} --no-plots", BASE="main", check=False)
    assert (branches.path / "pr-report" / "comment.md").exists()
    gated = "--max-drop" in command  # softmax is worse by more than that
    assert (done.returncode, "gate: " in done.stderr) == (int(gated), gated)


def test_make_quotes_a_revision():
    shown = Repository(ROOT).run("make", "--dry-run", "pr-report", "BASE=a b", "GATES=--max-drop m=1").stdout
    assert 'python -m app.pr_report --base "$BASE" --max-drop m=1' in shown
