"""The commands of docs/systems.md, each recipe among them, lead to the figures that the page has columns for.

The lines are the page's own, run by a shell. Reduced: an archive of some 100 images in the published layout stands in
the place of each data set, and SHORT below a recipe's own lines: EfficientNet-Lite0 for networks whose weights need a
download, 32 px, two epochs of one step, two trees, two draws of two images a class. Everything else is the recipe's.
"""

import csv
import gzip
import itertools
import math
import re
import shutil

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from ruamel.yaml import YAML

from checks.image_builders import encode
from stages.library.common.artifacts import sha256_file
from tests.doc_commands import sections
from tests.doc_project import LITE0, Place
from tests.layouts import tar_bytes
from tests.stages.plugins.datasets.test_caltech import write_zip

SHORT = [
    "backbones=[efficientnet_lite0]",
    "extract.input_size_px=32",
    "dnn.epochs=1",
    "xgboost.num_trees=2",
    "fewshot.shots=[2]",
    "fewshot.repeats=2",
    "finetune.epochs=2",
    "finetune.steps_per_epoch=1",
    "scratch.epochs=2",
    "scratch.warmup_epochs=1",
]
SYSTEMS = sections(ROOT / "docs" / "systems.md")
CALTECH = {
    "caltech101": ("101_ObjectCategories", ("BACKGROUND_Google", "cougar", "lotus")),
    "caltech256": ("256_ObjectCategories", ("001.ak47", "002.flag", "257.clutter")),
}


def recipe_of(line):
    """Returns the stem of the recipe that a line reads, or ""."""
    found = re.search(r"< docs/recipes/(.*)\.txt$", line)
    return found[1] if found else ""


IN_SECTIONS = [line for heading, lines in SYSTEMS.items() for line in lines if heading]
OFTEN = {"2-finetune-better", "4-fewshot-caltech101"}  # others of their stages are run below, or by how-to.md
IN_TABLES = [
    pytest.param(line, id=recipe_of(line), marks=[] if recipe_of(line) in OFTEN else pytest.mark.rare)
    for line in IN_SECTIONS
    if recipe_of(line)
]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Data set -> its archive in the published layout; CIFAR-10's is the project's own."""
    folder, dice = tmp_path_factory.mktemp("archives"), np.random.default_rng(0)

    def members(name):
        top, classes = CALTECH[name]
        for label, index in itertools.product(classes, range(30)):
            image = Image.fromarray(dice.integers(0, 256, (9, 12, 3), np.uint8))
            yield f"{top}/{label}/{index}.jpg", encode(image, "JPEG")

    (folder / "caltech.tar").write_bytes(tar_bytes(members("caltech256")))
    return {
        "caltech101": write_zip(folder / "caltech.zip", gzip.compress(tar_bytes(members("caltech101")))),
        "caltech256": folder / "caltech.tar",
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory, archives):
    place = Place(tmp_path_factory.mktemp("systems") / "project")
    archives["cifar10"] = place.cifar10
    return place


@pytest.fixture
def place(made):
    """The project as a clone has it; features and what stages have made stay in the caches."""
    made.restore()
    return made


def test_every_recipe_and_every_other_line_is_run():
    assert {recipe_of(line) for line in SYSTEMS[""]} == {"", "1-scratch-published"}
    names = sorted(str(parameter.id) for parameter in IN_TABLES)
    assert names == sorted(path.stem for path in (ROOT / "docs" / "recipes").iterdir())
    assert {line for line in IN_SECTIONS if not recipe_of(line)} == {PREDICT, PREDICT_ALL, COMBINATION}


def follow(place, archives, line):
    """Runs a recipe, shortened, and checks that the metrics of its stage are there."""
    name = recipe_of(line)
    place.project.git("checkout", "-q", f"docs/recipes/{name}.txt")
    path = place.folder / "docs" / "recipes" / f"{name}.txt"
    recipe = path.read_text(encoding="utf-8")
    (dataset,) = re.findall(r"dataset\.name=(\w+)", recipe)
    archive = archives[dataset]
    given = [] if "=PATH" in line else [f"dataset.archive={archive}", f"dataset.archive_sha256={sha256_file(archive)}"]
    path.write_text(recipe + "".join(f"-S {word}\n" for word in [*SHORT, *given]), encoding="utf-8")
    shutil.rmtree(place.folder / "metrics", ignore_errors=True)
    place.type(line)
    used = YAML(typ="safe").load(place.folder / "params.yaml")
    assert used["dataset"]["name"] == dataset
    assert used["scratch"]["epochs"] == 2  # the later of two counts, as the page says
    figures = list(figures_of(place, line, used))
    assert figures
    assert all(0 <= figure <= 1 and not math.isnan(figure) for figure in figures)


def figures_of(place, line, used):
    """Yields the accuracy of each model that a recipe is about."""
    if "exp run fewshot " in line:
        for head in used["fewshot"]["heads"]:
            yield place.metrics(f"{LITE0}/fewshot/{head}/2")["top1_accuracy"]["mean"]
    elif "exp run evaluate-scratch " in line:
        yield place.metrics("scratch")["top1_accuracy"]
    elif "exp run evaluate-finetuned " in line:
        yield place.metrics(f"{LITE0}/finetuned")["top1_accuracy"]
        if used["finetune"]["train_batch_norm"]:
            yield place.metrics(f"{LITE0}/finetuned")["training_mode"]["top1_accuracy"]  # the post's figure
    elif "exp run evaluate " in line:
        for head in used["heads"]:
            yield place.metrics(f"{LITE0}/{head}")["top1_accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("line", IN_TABLES)
def test_a_recipe_leads_to_its_figure(place, archives, line):
    follow(place, archives, line)


@pytest.mark.slow
def test_a_recipe_its_archive_and_the_report_one_after_the_other(place, archives):
    restore, *recipes, report = SYSTEMS[""]
    place.type(restore)
    for line in recipes:
        follow(place, archives, line)
    assert "Running stage 'report'" in place.type(report)
    assert "scratch" in place.leaderboard()


PREDICT = "python -m app.predict IMAGE... --backbone efficientnet_lite0 --top 5"
PREDICT_ALL = "python -m app.predict FOLDER --backbone efficientnet_lite2 --csv"
COMBINATION = (
    "python -m benchmarks.combination FOLDER..."  # not run: it needs data sets on which all heads were trained
)


@pytest.mark.slow
def test_imagenet_labels_need_no_training(place):
    found = re.findall(r"^  (0\.\d{4})  \S", place.type(PREDICT), re.MULTILINE)
    assert len(found) == 5
    assert found == sorted(found, reverse=True)
    assert len(list(csv.DictReader(place.type(PREDICT_ALL).splitlines()))) >= 25
