"""The commands of README.md and docs/how-to.md do what the pages say of them; docs/systems.md has test_systems_run.py.

The lines are the pages' own, run by a shell, so that a changed page is tested as it now stands. A section is one test:
its lines belong together. Each line is run, from the committed params.yaml, or LEFT_OUT has a reason.

Reduced: 75 images of 24 px in 3 classes, networks that see 32 px, two heads with two folds, two epochs of everything
(SIZES of doc_project.py and SMALL of checkout.py). `PATH` and `HEX` are those of an archive of 120 images in
CIFAR-10's layout, `new.jpg` is one of the images. Nothing else of a line is replaced: 160 px and 10 epochs are as the
page has them.
"""

import csv
import json
import re
import time

import pytest
from conftest import ROOT

from tests.doc_commands import sections
from tests.doc_project import LITE0, Place

PAGES = {"README": sections(ROOT / "README.md"), "how-to": sections(ROOT / "docs" / "how-to.md")}
OWN_IMAGES = [line for line in PAGES["how-to"]["Use your own images and labels"] if line.startswith("make train ")]
LEFT_OUT = {
    **dict.fromkeys(OWN_IMAGES, "run by test_own_images.py"),
    "make repro": "sets up an environment with pip; its two commands stand in the same page and are run",
    "make test": "runs these tests",
    "git clone URL decant && cd decant": "the project of these tests is such a copy",
    "make train PICTURES=~/images": "run by test_docs.py, in the tutorial",
    "make train SET='-S split.seed=1'": "run by test_train_runs.py",
    "make train-all": "run by test_docs.py, in the tutorial",
    "python -m benchmarks.imbalance caltech-101.zip": "needs a download, and an hour",
    ". .venv/bin/activate": "the tests have an environment; test_docs.py types it",
    "python3 -m venv .venv && . .venv/bin/activate": "the tests have an environment",
    "pip install -r requirements.txt": "needs a package registry",
    "pip install -r requirements-dev.txt": "needs a package registry",
    "pip install -r requirements-gpu.txt": "needs a package registry",
    "pip install -r requirements-tune.txt": "needs a package registry",
    "pytest -m 'not slow'": "runs these tests",
    "ruff format --check . && ruff check . && mypy": "the project of these tests has neither tests nor their settings",
    "python -m app.export --format onnx --hub my-model": "run by test_export.py; needs requirements-export.txt",
    "hf upload YOU/my-model my-model": "publishes",
    "make pr-report BASE=main": "run by test_pr_report.py",
    f"xdg-open artifacts/evaluation/{LITE0}/map/index.html": "opens a browser, as test_page.py of the map does",
    "dvc exp run -S 'split.group=\"patient_(\\d+)\"'": "needs images of groups: test_tfrecord.py has them",
    "dvc exp run -S split.group=folder": "needs images of groups: test_tfrecord.py has them",
    "dvc exp run -S split.near_duplicates=together": "run by test_leakage_of_groups.py, on images of groups",
    "python -m app.suggest unlabelled --number 50": "run by test_suggest.py",
    "python -m app.suggest": "run by test_suggest.py",
    "git merge BRANCH": "run by test_docs.py, on two branches",
    "git add dvc.lock data metrics && git commit --no-edit": "run by test_docs.py, after the merge",
}
MANY_EXPERIMENTS = {  # minutes each, so they are left out of what CI runs: `make test-rare`
    "Change a setting for one run",
    "Choose what the best model is best at, and weigh rare classes",
    "See how much a result depends on the seed",
    "Try many settings",
    "Use several backbones at once",
    "What it does",
}
SECTIONS = [
    pytest.param(lines, id=f"{stem}: {heading}", marks=[pytest.mark.rare] * (heading in MANY_EXPERIMENTS))
    for stem, page in PAGES.items()
    for heading, lines in page.items()
    if not LEFT_OUT.keys() >= set(lines)
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project in which every stage has run, and was committed twice."""
    place = Place(tmp_path_factory.mktemp("docs") / "project")
    place.project.repro()
    place.project.commit()
    place.project.commit()
    return place


@pytest.fixture
def place(made):
    made.restore()
    return made


def test_every_line_of_the_pages_is_run_or_left_out_for_a_reason():
    lines = {line for page in PAGES.values() for section in page.values() for line in section}
    assert LEFT_OUT.keys() | OUTCOMES.keys() == lines
    assert LEFT_OUT.keys() & OUTCOMES.keys() == set()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("lines", SECTIONS)
def test_a_section_does_what_it_says(place, lines):
    for line in lines:
        if line.startswith("dvc exp run"):
            # It leaves its changes in params.yaml, and each line of a page is a variation of its own.
            place.project.git("checkout", "-q", "params.yaml")
        if line not in LEFT_OUT:
            OUTCOMES[line](place, place.type(line))


# What each line leads to


def says(pattern):
    def check(place, printed):
        assert re.search(pattern, printed, re.MULTILINE)

    return check


def ran_with(stage, key, value):
    """A check: of what a stage depends on, this has changed, and no stage ran that does not depend on it."""

    def check(place, printed):
        assert place.ran_with(stage, key) == value
        assert "Stage 'train-scratch' didn't change, skipping" in printed
        assert place.leaderboard()

    return check


def weighed(value):
    def check(place, printed):
        for stage in (RIDGE, f"finetune@{LITE0}", "train-scratch"):
            assert place.ran_with(stage, "class_weights") == value

    return check


def softmax_is_there(place, printed):
    assert {f"{LITE0}/ridge", f"{LITE0}/softmax"} <= set(place.leaderboard())
    assert f"{LITE0}/dnn" not in place.leaderboard()


def more_pixels_and_epochs(place, printed):
    assert place.ran_with(f"bottleneck-extract@{LITE0}", "extract.input_size_px") == 160
    assert place.ran_with(f"finetune@{LITE0}", "finetune.epochs") == 10
    assert place.leaderboard()


def experiments_are_listed(place, printed):
    """Each has run, and stands there with what it changed."""
    rows = [line.split() for line in printed.splitlines() if line.startswith("- ")]
    assert f"experiments: {len(rows)}." in printed
    assert rows
    changed = [sorted(word for word in row if "=" in word) for row in rows]
    assert sorted(changed) == sorted(place.experiments)
    assert all(re.fullmatch(r"\d\.\d{4}|-|\S+=\S+", word) for row in rows for word in row[2:])  # no "Failed"


def changes_are_shown(place, printed):
    assert f"{LITE0}/ridge.json:" in printed  # the rest is cut
    table = place.type("dvc exp show --only-changed --csv")  # of which the page speaks beside the line
    assert f"{LITE0}/ridge.json:log_loss" in table
    assert "openvino" in table
    assert "scratch.epochs" not in table


def images_are_drawn(place, printed):
    assert "failed" not in printed
    assert "vega-lite" in (place.folder / "dvc_plots" / "index.html").read_text(encoding="utf-8")


def other_split(place, printed):
    assert place.ran_with("tfrecord", "split.seed") == 1
    assert f"finetune@{LITE0}" not in printed


def all_are_queued(place, printed):
    assert printed.count("Queued experiment") == len(place.experiments)


def queue_has_run(place, printed):
    # Until the workers have ended by themselves: `dvc queue stop` would also end those of the next queue.
    end = time.monotonic() + 600
    while "0 active, 0 idle" not in (status := place.project.run("dvc", "queue", "status")) or re.search(
        "Queued|Running", status
    ):
        assert time.monotonic() < end, status
        time.sleep(2)
    assert status.count("Success") == len(place.experiments)


def all_have_run(place, printed):
    assert len(place.project.run("dvc", "exp", "list", "--name-only").split()) == len(place.experiments)


def spread_over_three_seeds(place, printed):
    assert re.search(rf"{LITE0}/finetuned +\| finetune.seed 0, 1, 2 +\| 3 ", printed)


def costs_are_measured(place, printed):
    with (place.folder / "artifacts" / "costs" / "costs.csv").open(encoding="utf-8") as file:
        models = [row["model"] for row in csv.DictReader(file)]
    assert len(models) == 5
    assert (place.folder / "artifacts" / "costs" / "costs.png").is_file()


def cifar_is_classified(place, printed):
    content = json.loads((place.folder / "data" / "tfrecord" / "dataset.json").read_text(encoding="utf-8"))
    assert content["images"] == 120
    assert 0 <= place.metrics(f"{LITE0}/ridge")["top1_accuracy"] <= 1


def table_is_classified(place, printed):
    assert "fetch: table: 75 rows label files in 3 classes, 0 rows are wrong; " in printed
    assert 0 <= place.metrics(f"{LITE0}/ridge")["top1_accuracy"] <= 1


store_is_shown = says(rf"^{LITE0} +32 px squash bilinear tensorflow float32 +folder +75 ")


def nothing_is_that_old(place, printed):
    assert "0.0 MB are free" in printed
    store_is_shown(place, place.type("python -m app.store"))


def committed_is_back(place, printed):
    assert place.project.git("status", "--porcelain", "params.yaml", "dvc.lock", "data", "metrics") == ""
    assert place.project.changed() == set()


def combines_nothing(place, printed):
    assert "combined/average" not in place.leaderboard()


RIDGE = f"train-heads@{LITE0}-ridge"
EXTRACT = f"bottleneck-extract@{LITE0}"
OUTCOMES = {
    "python -m app.predict new.jpg": says(r"0\.\d{4} +\S"),
    "git restore params.yaml dvc.lock 'data/*.json' metrics && dvc checkout --allow-missing": committed_is_back,
    "dvc repro": says("Stage 'report' didn't change, skipping"),
    "cat artifacts/report/leaderboard.md": says(r"\| \S+/ridge "),
    "dvc plots show": images_are_drawn,
    "dvc exp run -S 'ridge.penalties=[1,10,100]'": ran_with(RIDGE, "ridge.penalties", [1, 10, 100]),
    "python -m app.experiments": experiments_are_listed,
    "python -m app.costs": costs_are_measured,
    "python -m app.store": store_is_shown,
    "dvc dag --collapse-foreach-matrix": says(r"\| train-heads \|"),
    "dvc exp run -S 'heads=[ridge,softmax]'": softmax_is_there,
    "dvc exp run -S ridge.features=probabilities": ran_with(RIDGE, "ridge.features", "probabilities"),
    "dvc exp run -S extract.input_size_px=160 -S finetune.epochs=10": more_pixels_and_epochs,
    "dvc exp run -S extract.geometry=crop -S extract.central_crop=0.875": ran_with(EXTRACT, "extract.geometry", "crop"),
    "dvc exp run -S extract.flip=true": ran_with(EXTRACT, "extract.flip", True),
    "dvc exp run -S extract.feature_blocks=8": ran_with(EXTRACT, "extract.feature_blocks", 8),
    "dvc exp run -S extract.runtime=openvino": ran_with(EXTRACT, "extract.runtime", "openvino"),
    "dvc exp run -S 'backbones=[efficientnet_lite0,efficientnet_lite1]' "
    "-S 'joined=[efficientnet_lite0+efficientnet_lite1]'": says(rf"^\| {LITE0}\+efficientnet_lite1/ridge +\|"),
    "dvc exp run -S evaluate.selection_metric=balanced_accuracy": says(r"\| validation: balanced accuracy \|"),
    "dvc exp run -S class_weights=balanced": weighed("balanced"),
    "dvc exp run -S 'class_weights={cat: 5, dog: 0.5}'": weighed({"cat": 5, "dog": 0.5}),
    "dvc exp run -S 'combine.methods=[average,stacking]'": says(r"^\| combined/stacking +\|"),
    "dvc repro evaluate": says("evaluate@"),
    "dvc repro map": says(f"map@{LITE0}"),
    "dvc repro -s combine report": says("'combine@combined-average'"),
    "dvc exp run -S 'combine.methods=[]'": combines_nothing,
    "dvc exp run -S 'combine.finetuned=[average]'": says(r"^\| combined/finetuned/average +\|"),
    "dvc exp show --only-changed": changes_are_shown,
    "dvc plots diff HEAD~1": images_are_drawn,
    "dvc exp run evaluate -S split.seed=1": other_split,
    "dvc repro -s report": says("'report'"),
    "dvc exp run --queue -S 'dnn.dropout=0.2,0.4' -S 'dnn.learning_rate=0.001,0.0003' evaluate": all_are_queued,
    "dvc queue start --jobs 2": queue_has_run,
    "dvc exp run --queue -S finetune.seed=0,1,2": all_are_queued,
    "dvc exp run --run-all": all_have_run,
    "python -m app.tune ridge --trials 20": says(r"^tune: ridge, .*trials"),
    "python -m app.experiments --spread": spread_over_three_seeds,
    "dvc exp run evaluate -S dataset.name=cifar10 -S dataset.archive=PATH -S dataset.archive_sha256=HEX": (
        cifar_is_classified
    ),
    "dvc exp run evaluate -S dataset.name=table -S dataset.table=train.csv -S dataset.folder=train_images.zip": (
        table_is_classified
    ),
    "python -m app.store verify": says(r"^[1-9]\d* parts, 0 damaged\. Nothing to be done"),
    "python -m app.store prune --unused-for 30": nothing_is_that_old,
    "dvc exp run --temp": says(r"Ran experiment\(s\)"),
    "python -m stages.evaluate --help": says("--records"),
}
