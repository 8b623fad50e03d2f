"""The report of hand-made evaluations: whole, self-contained, safe against names."""

import csv
import json
import shutil
from html.parser import HTMLParser

import contents
import evaluated
import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from dvc_render import VegaRenderer  # type: ignore[import-untyped]

from stages.library.common import artifacts, tables
from stages.library.common.console import UserError
from stages.library.report import page as report_page
from stages.library.report import published
from stages.library.scoring import prediction_files

HOSTILE = '<script>alert(1)</script>"&'
CLASSES = sorted([HOSTILE, "cat", "猫"])
LABELS = np.arange(24) % 3
VOID = {"meta", "img", "br", "hr"}
IMAGES = 3 * 6 + 1  # six a model, and all models by their size
LITE0 = "efficientnet_lite0"


class Page(HTMLParser):
    """Checks that every element is closed, and collects what the page holds."""

    def __init__(self, folder):
        super().__init__()
        self.open: list[str] = []
        self.given: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed((folder / "index.html").read_text(encoding="utf-8"))
        self.close()
        assert self.open == []
        self.ids, self.sources = self.values("id"), self.values("src")

    def values(self, key):
        """The values of an attribute, of whatever elements."""
        return [value for name, value in self.given if name == key]

    def handle_starttag(self, tag, attributes):
        self.given += attributes
        self.open += [tag] if tag not in VOID else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluated")
    models = [("ridge", "head", LITE0), ("finetuned", "finetuned", LITE0), ("scratch", "scratch", None)]
    for seed, (model, kind, backbone) in enumerate(models):
        logits = evaluated.noisy_logits(LABELS, 3, 0.6, seed)
        name = f"{backbone}/{model}" if backbone else model
        evaluated.evaluate(root, name, CLASSES, LABELS, logits, model, kind, backbone)
    return root


@pytest.fixture
def report(evaluations, tmp_path, run_stage, write_params):
    shutil.copytree(evaluations, tmp_path, dirs_exist_ok=True)
    write_params(fewshot__shots=[15])

    def run(out="report"):
        folders = {"records": "tfrecord", "metrics": "metrics", "evaluations": "evaluation", "out": out}
        folders |= {"params": "params.yaml", "few-shot": f"{out}.csv"}
        run_stage("report", *(part for key, name in folders.items() for part in (f"--{key}", tmp_path / name)))
        return tmp_path / out

    return run


def change(path, without=None, **changes):
    content = json.loads(path.read_text()) | changes
    content.pop(without, None)
    path.write_text(json.dumps(content))


def test_the_page_is_whole_self_contained_escaped_and_describes_the_data_set(report):
    out = report()
    page, raw = Page(out), (out / "index.html").read_text(encoding="utf-8")
    assert len(page.sources) == IMAGES
    assert page.values("data") == ["../costs/costs.png"]  # what no stage can make: times
    assert not {"few-shot", "published"} & set(page.ids)  # nothing is known of them here
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    links = page.values("href")
    sections = ["#leaderboard", "#mistakes", "#costs", "#models"]  # the contents, in the order of the page
    assert links[:4] == sections
    assert sorted(links[4:]) == [f"#{LITE0}/finetuned", f"#{LITE0}/ridge", "#scratch", "mistakes.csv"]
    assert {link[1:] for link in links if link.startswith("#")} <= set(page.ids)
    assert [name for name in page.ids if f"#{name}" in sections] == [name[1:] for name in sections]
    assert raw.count("<details>") == 3  # models are folded
    assert not [text for text in ("http:", "https:", "<script", "<link", "<iframe") if text in raw]
    assert HOSTILE in page.text  # in the table of the most frequent confusions
    shown = " ".join(page.text)
    assert "Decant: noise" in shown
    assert "3 classes, 24 images (0 train, 0 validation, 24 test), 9 to 13 by 12 px" in shown
    assert "Left out of the source: 3." in shown


def test_the_table_is_printed_and_is_that_of_the_files_and_two_runs_give_the_same_bytes(report, capsys):
    out = report()
    printed = capsys.readouterr().out
    assert (out / "leaderboard.md").read_text(encoding="utf-8") in printed
    assert printed.splitlines()[-2].startswith("report: 3 models, 0 left out")
    assert printed.splitlines()[-1].startswith(f"Next: open {out / 'index.html'}")
    assert len((out / "leaderboard.csv").read_text(encoding="utf-8").splitlines()) == 4
    assert set(contents.of(out)) == {"index.html", "leaderboard.csv", "leaderboard.md", "mistakes.csv"}
    assert contents.of(out) == contents.of(report("again"))
    assert out.with_suffix(".csv").read_bytes() == (out.parent / "again.csv").read_bytes()


def test_stale_results_are_left_out_and_named_and_costs_where_none_is_known(report, tmp_path, capsys):
    for path in tmp_path.glob("metrics/**/*.json"):
        change(path, without="size_bytes")  # as an older evaluation wrote them
    change(tmp_path / "evaluation" / "scratch" / "evaluation.json", dataset={"sha256": "0" * 64})
    write_audit(tmp_path, "0" * 64)
    out = report()
    page, printed = Page(out), capsys.readouterr().out
    assert not {"costs", "scratch", f"audit-{LITE0}"} & set(page.ids)
    assert len(page.sources) == 2 * 6
    assert "scratch" not in (out / "leaderboard.csv").read_text()
    assert any("scratch.json is left out" in text for text in page.text)
    assert "scratch.json is left out" in printed
    assert "audit is left out: it is about another data set or split" in printed


def write_audit(root, digest):
    folder = root / "evaluation" / LITE0 / "audit"
    numbers = {"images": 1000, "all_images": 2000, "label_issues": 17, "near_duplicate_pairs": 5}
    numbers["near_duplicate_pairs_across_splits"] = 3
    artifacts.write_json(folder / "audit.json", {**numbers, "dataset": {"sha256": digest}})
    for name in ("label_issues", "near_duplicates", "outliers"):
        (folder / f"{name}.png").write_bytes(name.encode())
    (folder.parent / "map").mkdir()
    (folder.parent / "map" / "index.html").touch()


def test_published_and_few_shot_results_and_what_was_found_in_the_data_have_a_section_each(report, tmp_path, capsys):
    dataset = tmp_path / "tfrecord" / "dataset.json"
    change(dataset, name="caltech101")
    digest = artifacts.sha256_file(dataset)
    for path in tmp_path.glob("evaluation/**/evaluation.json"):
        change(path, dataset={"sha256": digest})
    evaluated.write_fewshot(tmp_path, LITE0, digest, head="logistic", mean=0.801)
    write_audit(tmp_path, digest)
    out = report()
    table = (out / "published.md").read_text(encoding="utf-8")
    assert table in capsys.readouterr().out
    page = Page(out)
    assert {"few-shot", f"audit-{LITE0}", "published"} <= set(page.ids)
    assert len(page.sources) == IMAGES + 1 + 3
    assert {"0.8010 ± 0.0100", f"{LITE0}: accuracy by images per class"} <= set(page.text)
    links = page.values("href")
    order = ("leaderboard", "mistakes", f"audit-{LITE0}", "costs", "published", "few-shot", "models")
    assert links[:7] == [f"#{name}" for name in order]  # what to look at first comes early
    (link,) = (link for link in links if link.endswith("map/index.html"))
    assert (out / link).resolve() == tmp_path / "evaluation" / LITE0 / "map" / "index.html"
    text = " ".join("".join(page.text).split())
    assert "17 likely label errors, 5 pairs of near-duplicates, 3 of them across splits" in text
    assert "among 1,000 of 2,000 images" in text
    rows = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in table.splitlines()]
    assert (rows[0], len(rows)) == (published.HEADINGS, 2 + len(published.load("caltech101")))
    (row,) = (row for row in rows if row[:2] == ("Inception v3 + softmax head", "15"))
    assert row[3:6] == ("0.8750 ± 0.0050", "0.8010 ± 0.0100", "-7.40")
    assert row[6:8] == (f"0.8010 ({LITE0}/logistic)", f"ours: {LITE0}, logistic head")
    assert set(row) <= set(page.text)


def test_all_mistakes_are_a_file_with_names_the_most_confident_of_each_model_first(report, evaluations):
    rows = tables.read_csv(report() / "mistakes.csv", dict.fromkeys(["filename", "actual", "predicted"], str))
    assert {row["model"] for row in rows} == {f"{LITE0}/finetuned", f"{LITE0}/ridge", "scratch"}
    for model in {row["model"] for row in rows}:
        own = [row for row in rows if row["model"] == model]
        found = pq.read_table(evaluations / "evaluation" / model / "predictions.parquet").to_pylist()
        wrong = sorted((-row["confidence"], row["filename"]) for row in found if row["label"] != row["prediction"])
        assert [row["filename"] for row in own] == [name for _, name in wrong]
        names = {row["filename"]: (CLASSES[row["label"]], CLASSES[row["prediction"]]) for row in found}
        assert all(names[row["filename"]] == (row["actual"], row["predicted"]) for row in own)


def test_mistakes_of_other_classes_are_rejected(evaluations):
    with pytest.raises(UserError, match=r"predictions\.parquet can't be read .*must be below 1.* Run: dvc repro -f"):
        prediction_files.read_mistakes(evaluations / "evaluation" / "scratch" / "predictions.parquet", ["cat"])


@pytest.mark.parametrize(
    ("name", "folder", "title"),
    [
        ("folder", "data/pictures", "Decant: pictures"),
        ("folder", "/scans/My birds.zip", "Decant: My birds.zip"),
        ("table", "scans/", "Decant: scans"),
        ("folder", "..", "Decant: folder"),
        ("digits", "data/pictures", "Decant: digits"),
        ("folder", "a\udcff\x1b", r"Decant: a\udcff\x1b"),
    ],
)
def test_the_title_names_the_data(name, folder, title):
    assert report_page.title(name, folder) == title


@pytest.mark.parametrize(
    ("template", "table", "x", "y"),
    [
        ("confusion_counts", "confusion", "predicted", "actual"),
        ("per_class", "per_class", "recall", "class"),
        ("reliability", "reliability", "confidence", "accuracy"),
        ("learning_curve", "curve", "step", "accuracy"),
        ("few_shot", "few_shot", "shots", "top1_accuracy"),
    ],
)
def test_dvc_templates_are_filled_by_our_tables(evaluations, template, table, x, y):
    """Each template renders with the columns of its table: DVC fills it, and no anchor is left."""
    figures = evaluations / "evaluation" / "scratch"
    lines = ["backbone,head,shots,repeat,background,top1_accuracy", "a,ridge,15,0,with,0.8", "a,ridge,15,1,with,0.9"]
    (figures / "few_shot.csv").write_text("\n".join(lines) + "\n")
    with (figures / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        rows = [row | {"rev": "workspace"} for row in csv.DictReader(file)]
    properties = {"template": template, "template_dir": ROOT / ".dvc" / "plots", "x": x, "y": y, "title": "t"}
    spec = VegaRenderer(rows, "plot", **properties).partial_html()
    assert "<DVC_METRIC" not in spec
    assert json.loads(spec)["data"]["values"] == rows
    text = spec.replace(json.dumps(rows), "").replace("'", '"')  # a field may stand in an expression
    assert {x, y} <= {column for column in rows[0] if f'"{column}"' in text}
