"""Data sets as people download them, from raw files to records: what is used, and what is said of the rest."""

import json
import shutil
from collections import Counter

import pytest
import sharded
from PIL import Image

from stages.library.common import tables
from tests.conftest import write_images


def splits(out):
    """How many images of each class are in each split."""
    return {split: Counter(record.text for record in found) for split, found in sharded.read(out).items()}


def test_a_table_and_one_folder_of_images_in_the_style_of_kaggle(tmp_path, make_records, capsys):
    made = write_images(tmp_path / "made", per_class=20)
    rows = ["id,breed,fold,patient"]
    (tmp_path / "images").mkdir()
    for number, path in enumerate(sorted(made.rglob("*.png"))):
        path.rename(tmp_path / "images" / f"{number:04d}.png")
        rows.append(f"{number:04d},{path.parent.name},{'test' if number % 4 == 0 else ''},p{number // 2}")
    rows[6] = "nowhere,cat,,"
    table = tmp_path / "train.csv"
    table.write_text("\n".join(rows), encoding="utf-8")
    columns = {"filename": "id", "label": "breed", "split": "fold", "group": "patient"}
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "images")
    for folder in (tmp_path / "images", packed):
        out = make_records(
            dataset__name="table", dataset__table=str(table), dataset__folder=str(folder), dataset__columns=columns
        )
        found = splits(out)
        assert sum(map(Counter.total, found.values())) == 59
        assert found["test"] == Counter(cat=5, dog=5, emu=5)
        rejected = {row["row"]: (row["name"], row["reason"]) for row in tables.read_csv(out / "rejected.csv")}
        assert rejected["6"] == ("nowhere", "no such file in `dataset.folder`")
        assert rejected[""][1] == "no row of the table names it"
        assert (
            "2 left out (1 no row of the table names it; 1 no such file in `dataset.folder`)" in capsys.readouterr().out
        )


def test_splits_in_a_tar_with_thousands_of_files_that_are_no_images(tmp_path, make_records, capsys):
    root = tmp_path / "birds"
    for seed, (split, number) in enumerate({"Train": 12, "valid": 5, "TEST": 4}.items()):
        write_images(root / split, per_class=number, seed=seed)
        for index in range(40):
            (root / split / "cat" / f"{index}.wav").write_bytes(b"RIFF0000WAVE")
            (root / split / "dog" / f"{index}.txt").write_text("a song")
        (root / split / "@eaDir").mkdir()
    packed = shutil.make_archive(str(tmp_path / "birds"), "gztar", tmp_path, "birds")
    out = make_records(dataset__name="folder", dataset__folder=packed)
    expected = {"train": 12, "validation": 5, "test": 4}
    assert splits(out) == {name: Counter(cat=n, dog=n, emu=n) for name, n in expected.items()}
    content = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
    assert (content["images"], content["rejected"]) == (63, 240)
    assert f"240 left out (240 not an image), see {out}/rejected.csv" in capsys.readouterr().out


def test_photographs_in_avif(tmp_path, make_records, capsys):
    made = write_images(tmp_path / "photos", per_class=12)
    for number, path in enumerate(sorted(made.rglob("*.png"))):
        with Image.open(path) as image:
            image.save(path.with_suffix(".AVIF"), quality=90)
        path.unlink()
        if number % 2:  # what a server names is told by its content
            path.with_suffix(".AVIF").rename(path.with_suffix(""))
    out = make_records(dataset__name="folder", dataset__folder=str(made))
    assert sum(splits(out).values(), Counter()) == Counter(cat=12, dog=12, emu=12)
    assert "; 0 left out" in capsys.readouterr().out


def test_a_row_of_a_file_that_is_no_image_stands_in_rejected_csv_once(tmp_path, make_records, capsys):
    made = write_images(tmp_path / "images", per_class=20)
    rows = [f"{path.relative_to(made)},{path.parent.name}" for path in sorted(made.rglob("*.png"))]
    (made / "notes.txt").write_text("text")
    (made / "film.mov").write_text("text")
    (tmp_path / "labels.csv").write_text("\n".join(["filename,label", "notes.txt,cat", *rows]))
    labels = str(tmp_path / "labels.csv")
    out = make_records(dataset__name="table", dataset__table=labels, dataset__folder=str(made))
    found = [(row["name"], row["row"], row["reason"]) for row in tables.read_csv(out / "rejected.csv")]
    assert [row[:2] for row in found] == [("film.mov", ""), ("notes.txt", "1")]
    assert "2 left out (2 not an image)" in capsys.readouterr().out


def test_photographs_of_a_phone(tmp_path, make_records):
    heif = pytest.importorskip("pillow_heif", reason="requirements-heif.txt is not installed")
    made = write_images(tmp_path / "photos", per_class=12)
    for path in sorted(made.rglob("*.png")):
        with Image.open(path) as image:
            heif.from_pillow(image).save(path.with_suffix(".HEIC"))
        path.unlink()
    out = make_records(dataset__name="folder", dataset__folder=str(made))
    assert sum(map(Counter.total, splits(out).values())) == 36
    assert tables.read_csv(out / "rejected.csv") == []
