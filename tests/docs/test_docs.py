"""The commands of README and docs. The tutorial's are run as they stand, by this file; those of README, how-to.md and
systems.md on few images by test_docs_run.py; those on remotes, pull requests and exports by test_remotes.py,
test_pr_report.py and test_export.py. Others take hours, or change the machine: the program itself reads each command
line here, up to the point where it would begin.
"""

import argparse
import importlib
import itertools
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from checkout import Project
from conftest import ROOT, write_images
from dvc.cli import DvcParserError, parse_args  # type: ignore[import-untyped]
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps  # type: ignore[import-untyped]
from repository import FEATURES, PARAMS, made

from stages.library.settings import load_params
from tests import processes
from tests.doc_commands import sections

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])

LINES = [(path.stem, line) for path in PAGES for lines in sections(path).values() for line in lines]


@pytest.mark.parametrize("line", [pytest.param(line, id=f"{stem}: {line}"[:90]) for stem, line in LINES])
def test_a_command_is_understood(line, tmp_path, monkeypatch, capsys):
    lexer = shlex.shlex(line.replace("...", ""), posix=True, punctuation_chars="|<>")
    lexer.whitespace_split = True
    words = list(lexer)
    words = words[words.index("|") + 1 :] if "|" in words else words
    words = list(itertools.takewhile(lambda word: word not in ("<", ">"), words))
    overrides = [word for flag, word in itertools.pairwise(words) if flag == "-S" and "=" in word]
    if written := [word for word in overrides if not re.search(r"[A-Z]{3,}|=$", word)]:  # PATH, HEX, KEY=VALUE
        params = Path(shutil.copy(ROOT / "params.yaml", tmp_path))
        for point in get_hydra_sweeps({"params.yaml": written}):  # one, but for the grid of a --queue
            apply_overrides(params, point["params.yaml"])
        if not any("archive" in word for word in overrides):
            load_params(params)
    words = list(itertools.dropwhile(lambda word: "=" in word or word in ("xargs", "time", "$"), words))
    if words[:1] == ["dvc"]:
        parse_args(words[1:])
    if words[:2] == ["python", "-m"] or (words and words[0].endswith("bin/python") and words[1] == "-m"):
        assert reads(words[2], words[3:], monkeypatch) or words[2] in INSTALLED, line
    if words[:1] == ["make"]:
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert {word for word in words[1:] if "=" not in word} <= set(targets)
    if words[:2] == ["pip", "install"] and "-r" in words:
        assert (ROOT / words[words.index("-r") + 1]).is_file()


INSTALLED = {"venv", "pip", "http.server"}


class Understood(Exception):  # noqa: N818 - no error
    """A program has read its command line."""


def reads(module, arguments, monkeypatch):
    """Lets a program of this project read its command line and no more; False where it is none of this project."""
    is_package = (ROOT / Path(*module.split(".")) / "__main__.py").is_file()
    name = f"{module}.__main__" if is_package else module
    if not (ROOT / Path(*name.split("."))).with_suffix(".py").is_file():
        return False
    if arguments in ([], ["--help"]):  # a program is mentioned
        return True
    real = argparse.ArgumentParser.parse_args

    def parse(parser, *given):
        real(parser, *given)
        raise Understood

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(Understood):
        importlib.import_module(name).main()
    return True


def test_a_wrong_command_line_is_noticed(monkeypatch, capsys):
    assert reads("app.predict", ["cat.jpg", "--top", "3"], monkeypatch)
    assert not reads("http.server", [], monkeypatch)
    with pytest.raises(SystemExit, match="2"):
        reads("app.predict", ["cat.jpg", "--topp", "3"], monkeypatch)
    with pytest.raises(DvcParserError):
        parse_args(["exp", "show", "--only-change-d"])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_lead_somewhere_and_images_are_there_and_small(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not target.startswith(("http://", "https://", "#")):
            assert (path.parent / target.partition("#")[0]).exists(), target
    sources = re.findall(r'<img src="([^"]+)"', text)
    assert sources or path.stem != "README"
    for source in sources:
        assert (path.parent / source).stat().st_size < 150_000


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_names_the_environment_before_the_first_command_that_is_found_in_it(path):
    text = path.read_text(encoding="utf-8")
    lines = re.search(r"^ *(dvc|pip|python|pytest|ruff|xargs dvc) .*", re.sub(r"^    ", "", text, flags=re.M), re.M)
    assert lines is None or ".venv/bin/activate" in text[: text.index(lines[0].strip())]


@pytest.mark.slow
def test_two_branches_are_merged_as_the_page_says(tmp_path):
    """Each changes a head; the merge has both changes, and no file that is a mixture."""
    repository = made(tmp_path / "repository")
    shutil.copy(ROOT / ".gitattributes", repository.path)
    repository.write("data/inputs.json", "{}")
    repository.commit("attributes")
    repository.git("branch", "other")
    for branch, ridge, softmax in (("main", "0.7", "0.5"), ("other", "0.9", "0.6")):
        repository.git("switch", "--quiet", branch)
        repository.write("params.yaml", PARAMS.replace("0.9", ridge).replace("0.8", softmax))
        repository.write("features.py", FEATURES.replace('"features"', f'"features of {branch}"', 1))
        repository.dvc("repro", "--quiet")
        repository.commit(branch)
    repository.git("switch", "--quiet", "main")
    mine = repository.git("show", "main:dvc.lock")
    merge, *rest = sections(ROOT / "docs" / "how-to.md")["Merge two branches"]
    done = repository.run("bash", "-c", merge.replace("BRANCH", "other"), check=False)
    assert done.stdout.count("CONFLICT") == 4  # a script, params.yaml, dvc.lock and the metrics of softmax
    assert (repository.path / "dvc.lock").read_text(encoding="utf-8").strip() == mine
    assert json.loads((repository.path / "metrics" / "tiny" / "softmax.json").read_text())["top1_accuracy"] == 0.5
    repository.write("params.yaml", PARAMS.replace("0.9", "0.7").replace("0.8", "0.6"))
    repository.git("checkout", "--ours", "features.py")
    repository.git("add", "params.yaml", "features.py")
    repository.run("bash", "-e", "-c", "\n".join(rest))
    assert repository.git("status", "--porcelain") == ""
    assert json.loads(repository.git("show", "HEAD:metrics/tiny/softmax.json"))["top1_accuracy"] == 0.6
    assert repository.dvc("status").stdout.strip() == "Data and pipelines are up to date."


@pytest.mark.slow
def test_the_tutorial_runs_as_it_stands(tmp_path):
    """In a shell that finds what a system has, and no program of the environment before the page says how."""
    project = Project(tmp_path / "project")
    shutil.copytree(ROOT / "app", project.folder / "app")
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, project.folder)
    environment = Path(sys.executable).parent.parent
    (project.folder / ".venv").symlink_to(environment, target_is_directory=True)
    shutil.rmtree(project.folder / "data" / "pictures")
    project.set({"extract.input_size_px": 32, "dataset.name": "digits"})
    write_images(tmp_path / "home" / "images", per_class=25)
    # The environment that runs the tests has what it needs, and the network's own input size, 224 px, takes long.
    for name, before, after in (
        ("Makefile", " $(BIN)/.installed\n\t@exec", "\n\t@exec"),
        ("app/train.py", '_px": None', '_px": 32'),
    ):
        text = (project.folder / name).read_text(encoding="utf-8")
        assert before in text
        (project.folder / name).write_text(text.replace(before, after), encoding="utf-8")
    project.commit()
    script = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"), re.DOTALL)
    found = os.environ["PATH"].split(os.pathsep)
    path = os.pathsep.join(place for place in found if not (Path(place) / "dvc").exists())
    places = {"HOME": tmp_path / "home", "DECANT_CACHE": tmp_path / "cache", "PATH": path}
    command = "bash", "-euo", "pipefail", "-c", "".join(script)
    done = processes.run(*command, cwd=project.folder, **places, **processes.GIT)
    assert (
        "folder: 75 images in 3 classes. If all is new, the first leaderboard (ridge, logistic) takes about"
        in done.stdout
    )
    assert done.stdout.index("Next: .venv") < done.stdout.index("fine-tuning and training from scratch, about")
    assert "75 images by" in done.stderr
    table = (project.folder / "predictions.csv").read_text(encoding="utf-8")
    assert table.startswith("file,unlike,farther_out,sure,rank,class,in_set,probability,error\n")
    # What was varied is gone again.
    assert project.git("status", "--porcelain", "--untracked-files=no") == ""
    assert project.git("log", "--format=%s", "-1") == "Cats and dogs\n"
    assert project.changed() == set()
