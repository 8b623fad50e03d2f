import dataclasses
import json
import os
import random
import re
import tracemalloc
from types import SimpleNamespace
from typing import Any

import contents
import numpy as np
import pytest
import sharded

from stages import tfrecord
from stages.library.common import tables
from stages.library.common.console import UserError
from stages.library.common.params import ParamsError, parse
from stages.library.preparation import sharding
from stages.library.records import manifest as manifests
from stages.library.records import tfrecord as records
from stages.library.sources import contract as datasets
from stages.library.sources.contract import Place, SourceImage, Stray


@pytest.fixture
def run(tmp_path, write_params, run_stage, monkeypatch):
    """Runs the stage on given items, in place of a data set, and returns its out."""

    def run(items, out="out", **changes):
        monkeypatch.setattr(datasets, "lookup", lambda name: SimpleNamespace(read=lambda params, raw: iter(items)))
        path, examples = tmp_path / out, tmp_path / f"{out}.png"
        run_stage("tfrecord", "--params", write_params(**changes), "--out", path, "--examples", examples)
        return path

    return run


def images(number, classes=("b", "a"), split=None, seed=0):
    rng = np.random.default_rng(seed)
    return [
        SourceImage(f"{classes[index % len(classes)]}/{index}", classes[index % len(classes)], split, pixels)
        for index, pixels in enumerate(rng.integers(0, 256, (number, 5, 4), np.uint8))
    ]


def test_every_image_is_in_one_split_with_its_class_whatever_the_order(run, tmp_path):
    items = images(200)
    folder = run(items, "first")
    everything = [(split, record) for split, found in sharded.read(folder).items() for record in found]
    assert sorted(record.filename for _, record in everything) == sorted(item.name for item in items)
    for _, record in everything:
        assert (record.text, record.label) == {"a": ("a", 0), "b": ("b", 1)}[record.filename[0]]
        assert (record.height, record.width, record.format) == (5, 4, "png")
    assert (folder / "labels.txt").read_text() == "0:a\n1:b\n"

    random.Random(1).shuffle(items)
    assert contents.of(run(items, "second")) == contents.of(folder)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()

    # Moving images moves no other between splits, and one more image one across each border.
    before = {record.key: split for split, record in everything}
    renamed = [dataclasses.replace(item, name=f"elsewhere/{item.name}") for item in items]
    for more, most in (([], 0), (images(1, seed=1), 2)):
        found = sharded.read(run(renamed + more)).items()
        after = {record.key: split for split, records in found for record in records}
        assert sum(after[key] != split for key, split in before.items()) <= most
        assert len(after) == len(before) + len(more)


def test_each_class_has_its_share_and_groups_and_weights_stand_in_the_manifest(run, capsys):
    items = [dataclasses.replace(item, weight=0.5 + index % 2) for index, item in enumerate(images(40, "aab"))]
    items = [dataclasses.replace(item, name=f"{item.text}/p{index // 4}/{index}") for index, item in enumerate(items)]
    items[39] = dataclasses.replace(items[39], group="5")  # the data set's own name wins
    counts = json.loads((run(items, "alone") / "dataset.json").read_text())["counts"]
    assert counts == {"train": {"a": 17, "b": 7}, "validation": {"a": 5, "b": 3}, "test": {"a": 5, "b": 3}}
    for rule in ("folder", r"p(\d+)"):
        folder = run(items, rule[0], split__group=rule)
        found = manifests.read(folder)
        rows = dict(zip(found.names(), zip(found.groups.tolist(), found.weights.tolist(), strict=True), strict=True))
        assert [rows[item.name][1] for item in items] == [item.weight for item in items]
        of = [rows[item.name][0] for item in items]
        assert len({of[4 * group] for group in range(10)}) == 10
        assert all(of[row] == of[row - row % 4] for row in range(39)), "one number a group"
        assert of[39] == of[20] if rule != "folder" else of[39] != of[36]
        split = {record.filename: name for name, records in sharded.read(folder).items() for record in records}
        assert all(split[items[row].name] == split[items[row - row % 4].name] for row in range(39))
        assert json.loads((folder / "dataset.json").read_text())["groups"]["images_in_none"] == 0
    assert "groups, 0 images in none" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"`split\.group` must find a group .* as in 'a/p0/0'\. Received: q\(\.\)"):
        run(items[:39], "none", split__group="q(.)")


def test_memory_holds_no_images_of_each_class(run, monkeypatch):
    held = []

    def write(spool, *arguments):
        held.append(tracemalloc.get_traced_memory()[0])
        return write_shards(spool, *arguments)

    write_shards = sharding.Spool.write_shards
    monkeypatch.setattr(sharding.Spool, "write_shards", write)
    monkeypatch.setattr(sharding, "SPOOL_BYTES", 1 << 20)
    names = [f"{number % 30:02}" for number in range(330)]
    rng = np.random.default_rng(0)
    pixels = (rng.integers(0, 256, (150, 150, 3), np.uint8) for _ in names)  # of 67 kB each, 20 MB together
    tracemalloc.start()
    run(SourceImage(f"{text}/{row}", text, None, next(pixels)) for row, text in enumerate(names))
    tracemalloc.stop()
    assert held[0] < 8_000_000


def test_a_class_too_small_is_named_with_what_follows(run, capsys):
    run([*images(60), *images(2, "c", seed=1)])
    said = capsys.readouterr().out
    assert "tfrecord: no test image, so its recall is not measured: c (2 images)\n" in said
    assert "tfrecord: no validation image, so it has no part in what validation chooses: c (2 images)\n" in said
    assert "no training image" not in said
    with pytest.raises(UserError, match=r"no image fell into: validation, test\. Received: 4 images in 2 classes"):
        run(images(4))


def ordered(number, file, split, seed=0):
    """Images of two classes with their places in a file."""
    return [
        dataclasses.replace(item, name=f"{file}/{index}", split=split, place=Place(file, index, number))
        for index, item in enumerate(images(number, seed=seed))
    ]


def test_with_the_tail_identical_images_may_stand_on_both_sides_and_are_counted(run, capsys):
    train, test = ordered(20, "batch", "train"), ordered(10, "test", "test", seed=1)
    train[19] = dataclasses.replace(train[19], content=train[0].content)  # training and validation
    train[18] = dataclasses.replace(train[18], content=test[0].content)  # validation and test
    folder = run(train + test, split__method="tail", split__validation=0.1)
    found = sharded.read(folder)
    assert [len(found[split]) for split in records.SPLITS] == [18, 2, 10]
    assert {record.filename for record in found["validation"]} == {"batch/18", "batch/19"}
    content = json.loads((folder / "dataset.json").read_text())
    duplicates = {"images": 2, "across_official_split": 1, "across_validation": 1, "in_several_classes": 1}
    assert content["duplicates"] == duplicates
    assert "tfrecord: 1 images stand in several classes" in capsys.readouterr().out
    pixels = np.array([item.content for item in train + test])
    assert content["pixels"] == {"minimum": 0, "maximum": 255, "mean": round(float(pixels.mean()), 6)}
    assert content["files"] == {"batch": {"a": 10, "b": 10}, "test": {"a": 5, "b": 5}}


def test_what_is_not_included_is_neither_rejected_nor_counted(run, capsys):
    broken = [SourceImage(f"c/{index}.jpg", "c", None, b"<html>") for index in range(50)]
    strays = [Stray("notes\n.txt", "not an image"), Stray("z.jpg", "no such file", 7)]
    folder = run([*images(200), *broken, *strays], tfrecord__include=["A/*", "b/1*"])
    assert tables.read_csv(folder / "rejected.csv") == [
        {"name": "notes\n.txt", "row": "", "reason": "not an image"},
        {"name": "z.jpg", "row": "7", "reason": "no such file"},
    ]
    left_out = (
        f"2 left out (1 no such file; 1 not an image), see {folder}/rejected.csv; 95 skipped by `tfrecord.include`; "
    )
    assert f"2 classes; {left_out}" in capsys.readouterr().out
    names = sorted(record.filename for found in sharded.read(folder).values() for record in found)
    assert names == sorted(item.name for item in images(200) if item.name.startswith(("a/", "b/1")))
    content = json.loads((folder / "dataset.json").read_text())
    assert (content["images"], content["skipped"], content["rejected"]) == (len(names), 250 - len(names), 2)
    assert content["classes"] == ["a", "b"]
    with pytest.raises(UserError, match=r"`tfrecord.include`.*as in 'a/1'\. Received: c/\*$"):
        run(images(100), "none", tfrecord__include=["a/*", "c/*"])
    assert not folder.with_name("none").exists()


NAMES = ["data_batch_1/a.png", "data_batch_10/a.png", "test_batch/a.png", "cat/deep/x[1].jpg"]


@pytest.mark.parametrize(
    ("patterns", "taken"),
    [
        (["*"], NAMES),
        (["data_batch_1/*"], NAMES[:1]),
        (["Data_Batch_1*"], NAMES[:2]),
        (["*.PNG"], NAMES[:3]),
        (["data_batch_?/*", "test_batch/*"], [NAMES[0], NAMES[2]]),
        (["cat/*.jpg"], NAMES[3:]),
        (["*/x[[]1].jpg"], NAMES[3:]),
        (["*/a.png", "test*"], NAMES[:3]),
    ],
)
def test_an_image_is_taken_if_any_pattern_matches_its_whole_name(patterns, taken):
    for pattern in ("DATA_BATCH_2/*", "data_batch_1", "batch_1/*"):
        name_filter = tfrecord.NameFilter([*patterns, pattern])
        assert [name for name in NAMES if name_filter.takes(name)] == taken
        assert name_filter.skipped == len(NAMES) - len(taken)
        with pytest.raises(UserError, match=rf"as in 'cat/deep/x\[1\]\.jpg'\. Received: {re.escape(pattern)}$"):
            name_filter.check()
    with pytest.raises(ParamsError, match=r"^`tfrecord\.include` must have at least 1 item.*Received: \[\]"):
        parse("tfrecord", {"shards": 1, "max_rejected": 0, "include": []}, records.Params)


def test_records_of_another_data_set_are_found_out(run):
    ours = run(images(60, "ab"), "ours")
    dataset = json.loads((ours / "dataset.json").read_text(encoding="utf-8"))
    manifests.read(ours).check(dataset)
    for other in (run(images(60, "abc"), "classes"), run(images(60, "ab", seed=1), "pixels")):
        with pytest.raises(UserError, match=r"hold other images than its dataset.json says. Run: dvc repro -f tfreco"):
            manifests.read(other).check(dataset)


def test_no_more_images_are_in_memory_than_the_cores_work_on():
    taken = []

    def endless():
        for number in range(1000):
            taken.append(number)
            yield SourceImage(f"a/{number}", "a", None, np.full((2, 2), number % 256, np.uint8))

    outcomes: Any = tfrecord.normalise_all(endless())
    for done in range(1, 60):
        item, outcome = next(outcomes)
        assert item.name == f"a/{done - 1}"
        assert outcome.values.total == 4 * (done - 1)
        assert len(taken) - done <= 2 * (os.cpu_count() or 1)
    outcomes.close()
