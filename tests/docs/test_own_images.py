"""docs/how-to.md: one line each leads from raw files to a leaderboard. The lines are the page's own, typed in a shell.

Each is all that a newcomer runs, with the params.yaml of a clone and the network's own input size, on some 40 images.
"""

import csv
import itertools
import re
import shutil
from collections import Counter

import pytest
import sharded
from checkout import Project
from conftest import ROOT, write_images
from PIL import Image

from tests.doc_commands import sections

PAGE = sections(ROOT / "docs" / "how-to.md")
LINES = [line for line in PAGE["Use your own images and labels"] if line.startswith("make train ")]


def kaggle(folder, scratch):
    """One folder of photographs, and train.csv with a row of no photograph."""
    rows = ["id,breed", "nowhere,cat"]
    folder.mkdir()
    for number, path in enumerate(sorted(write_images(scratch, per_class=14).rglob("*.png"))):
        Image.open(path).save(folder / f"{number:04x}.jpg")
        rows.append(f"{number:04x},{path.parent.name}")
    folder.with_suffix(".csv").write_text("\n".join(rows), encoding="utf-8")
    return {"cat": 14, "dog": 14, "emu": 14}, "1 left out (1 no such file in `dataset.folder`)"


def zipped(file, scratch):
    """As a Mac packs a folder."""
    write_images(scratch / "photos", per_class=14)
    (scratch / "__MACOSX" / "photos").mkdir(parents=True)
    (scratch / "__MACOSX" / "photos" / "._0.png").write_bytes(b"\0\5\x16\7")
    shutil.make_archive(str(file.with_suffix("")), "zip", scratch)
    return {"cat": 14, "dog": 14, "emu": 14}, "1 left out (1 hidden or system file)"


def in_splits(folder, scratch):
    for seed, (split, number) in enumerate({"train": 8, "valid": 3, "test": 4}.items()):
        write_images(folder / split, per_class=number, seed=seed)
    return {"cat": 15, "dog": 15, "emu": 15}, "24 train, 9 validation, 12 test; 3 classes; 0 left out"


def of_a_phone(folder, scratch):
    heif = pytest.importorskip("pillow_heif", reason="requirements-heif.txt is not installed")
    for path in sorted(write_images(folder, per_class=14).rglob("*.png")):
        heif.from_pillow(Image.open(path)).save(path.with_suffix(".HEIC"))
        path.unlink()
    return {"cat": 14, "dog": 14, "emu": 14}, "0 left out"


def of_patients(folder, scratch):
    """Two images of each of 14 patients."""
    for path in sorted(write_images(folder, per_class=14, classes=("ill", "well")).rglob("*.png")):
        patient, side = divmod(int(path.stem), 2)
        patient += 7 * (path.parent.name == "well")
        path.rename(path.with_name(f"patient_{patient}_{('left', 'right')[side]}.png"))
    return {"ill": 14, "well": 14}, "tfrecord: 14 groups, 0 images in none"


def rare_and_common(folder, scratch):
    write_images(folder, per_class=3, classes=("rare",))
    write_images(folder, per_class=36, classes=("no", "common"))
    shutil.rmtree(folder / "no")  # which has the colour of the rare ones
    return {"rare": 3, "common": 36}, "| validation: balanced accuracy |"


EXAMPLES = {
    "train": kaggle,
    "images.zip": zipped,
    "~/birds": in_splits,
    "~/phone": of_a_phone,
    "~/scans": of_patients,
    "~/rare": rare_and_common,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A clone in which nothing has run yet, with the params.yaml that it comes with."""
    folder = tmp_path_factory.mktemp("own")
    made = Project(folder / "project")
    for name in ("app", ".ci"):
        shutil.copytree(ROOT / name, made.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "params.yaml"):
        shutil.copy(ROOT / name, made.folder)
    shutil.rmtree(made.folder / "data")
    (made.folder / "data").mkdir()
    shutil.copy(ROOT / "data" / "corrections.csv", made.folder / "data")
    (folder / "home").mkdir()
    made.commit()
    return made


def pictures_of(line):
    return line.split("PICTURES=")[1].split()[0]


def test_the_page_has_the_examples():
    assert list(map(pictures_of, LINES)) == list(EXAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, id=name, marks=[] if name in ("train", "~/rare") else pytest.mark.rare)
        for line, name in zip(LINES, EXAMPLES, strict=True)
    ],
)
def test_one_line_leads_from_raw_files_to_a_leaderboard(project, tmp_path, line):
    home, pictures = project.folder.parent / "home", pictures_of(line)
    counts, said = EXAMPLES[pictures](project.folder / pictures.replace("~", str(home)), tmp_path / "made")
    project.git("checkout", "-q", "params.yaml")
    typed = line.replace("make ", "make --old-file .venv/bin/.installed ", 1)
    printed = project.run("env", f"HOME={home}", "bash", "-euc", typed)
    assert said in printed
    records = sharded.read(project.folder / "data" / "tfrecord")
    assert Counter(record.text for found in records.values() for record in found) == counts
    assert all(Counter(record.text for record in found).keys() == counts.keys() for found in records.values())
    if "split.group" in line:
        patients = [{record.filename.split("_")[1] for record in found} for found in records.values()]
        assert not any(one & other for one, other in itertools.combinations(patients, 2))
    with (project.folder / "artifacts" / "report" / "leaderboard.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["model"] for row in rows} == {f"efficientnet_lite0/{head}" for head in ("ridge", "logistic", "softmax")}
    for row in rows:
        assert re.search(rf"^\| {row['model']} +\| ", printed, re.MULTILINE)
        assert (
            float(row["balanced_accuracy"]) > 0.85
        )  # the classes differ in colour; of nine test images one may be wrong
    assert re.search(r"fine-tuning and training from scratch, about .*: make train-all$", printed, re.MULTILINE)
