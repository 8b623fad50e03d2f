"""The web page that DVC makes of our tables: a script in it ends where DVC ends it, whatever the classes are named."""

import json
import re
import shutil
import sys
from html.parser import HTMLParser

import dvc_render  # type: ignore[import-untyped]
import evaluated
import numpy as np
import pytest
from conftest import ROOT
from dvc.render.match import match_defs_renderers  # type: ignore[import-untyped]
from dvc.repo import Repo  # type: ignore[import-untyped]
from PIL import Image

from app import pr_report
from stages.library.common import tables
from stages.library.evaluation import evaluation
from stages.library.evaluation.measures import Predictions
from tests import processes

# DVC's own, where it reads plots.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise AttributeError:DeprecationWarning")

HARMLESS = ["ant", "bee", "cat", "dog", "emu"]
HOSTILE = ["</script><script>alert(1)</script>", "<!--<script>", "<DVC_METRIC_DATA>", "]]>'\"", "=a\\u003c"]
DVC_YAML = """\
plots:
  - confusion.csv: {template: confusion_counts, x: predicted, y: actual}
  - per_class.csv: {template: per_class, x: recall, y: class}
"""
MARKUP = re.compile(r"<(?:/?script|!--)", re.IGNORECASE)


class Scripts(HTMLParser):
    """Counts elements, as a browser sees them."""

    def __init__(self, text):
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.handlers += [name for name, _ in attributes if name.startswith("on")]


def write_tables(folder, classes, raw=False):
    """Writes the tables of an evaluation; as they were before names were escaped, or as a stranger writes them."""
    labels = np.arange(40) % len(classes)
    keys = np.array([f"{row:02}" for row in range(40)], object)
    logits = evaluated.noisy_logits(labels, len(classes), 0.5)
    folder.mkdir(parents=True, exist_ok=True)
    found = Predictions(keys, labels, logits, tuple(classes))
    evaluation.write_tables(folder, found, [f"{key}.png" for key in keys])
    if raw:
        for name in ("confusion.csv", "per_class.csv"):
            text = (folder / name).read_text(encoding="utf-8")
            (folder / name).write_text(text.replace(r"\u003c", "<"), encoding="utf-8")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty DVC project with our templates, as current folder."""
    monkeypatch.chdir(tmp_path)
    with Repo.init(str(tmp_path), no_scm=True):
        pass
    shutil.copytree(ROOT / ".dvc" / "plots", tmp_path / ".dvc" / "plots", dirs_exist_ok=True)
    (tmp_path / "dvc.yaml").write_text(DVC_YAML, encoding="utf-8")
    return tmp_path


def shown(project):
    """Returns the page of `dvc plots show`, made as that command makes it."""
    with Repo(str(project)) as repository:
        found = repository.plots.show()
        matched = match_defs_renderers(found, project / "static", repository.plots.templates_dir)
    dvc_render.render_html([each.renderer for each in matched], project / "index.html")
    return (project / "index.html").read_text(encoding="utf-8")


def test_a_class_does_not_end_a_script_of_the_page_and_keeps_its_name(project):
    write_tables(project, HARMLESS)
    harmless = shown(project)
    write_tables(project, HOSTILE)
    page = shown(project)
    assert Scripts(page).tags == Scripts(harmless).tags
    assert Scripts(page).tags.count("script") >= 2
    assert MARKUP.findall(page) == MARKUP.findall(harmless)
    assert r"\\u003c/script>\\u003cscript>alert(1)" in page  # as JSON, so that people can read it
    # The tables still have the names.
    rows = tables.read_csv(project / "per_class.csv", tables.PER_CLASS)
    assert [row["class"] for row in rows] == HOSTILE
    confusions = tables.read_csv(project / "confusion.csv", tables.CONFUSION)
    assert {row["actual"] for row in confusions} == set(HOSTILE)
    with Repo(str(project)) as repository:
        sources = repository.plots.show()["workspace"]["sources"]["data"]
    # What a pull request's image is drawn from.
    assert [row["class"] for row in tables.restored(sources["per_class.csv"]["data"])] == HOSTILE


def test_the_page_of_a_pull_request_escapes_tables_that_others_wrote_and_names_of_files(project):
    """They may come from an older commit, or from anybody's."""

    def page(classes, image):
        write_tables(project, classes, raw=True)
        Image.new("RGB", (4, 4)).save(project / image)
        text = f"{DVC_YAML}  - {json.dumps(image)}: {{}}\n"
        (project / "dvc.yaml").write_text(text, encoding="utf-8")
        words = ["-P", pr_report.DVC, "plots", "show", "--quiet", "--out", "page"]
        processes.run(sys.executable, *words, cwd=project)
        return (project / "page" / "index.html").read_text(encoding="utf-8")

    harmless, hostile = page(HARMLESS, "a.png"), page(HOSTILE, "<img src=x onerror=alert(1)>'\".png")
    assert (project / "per_class.csv").read_text(encoding="utf-8").count("<script>") == 2
    assert Scripts(hostile).tags == Scripts(harmless).tags
    assert Scripts(hostile).tags.count("img") == 1
    assert Scripts(hostile).handlers == []
    assert MARKUP.findall(hostile) == MARKUP.findall(harmless)
