"""`python -m app.store`, on stores that the tests fill."""

import functools
import os
import time

import numpy as np
import pytest

from stages.library.common import artifacts, store_location
from stages.library.common.cache_folders import cache_folder
from stages.library.extraction.feature_store import FeatureStore, Rows


def put(name, backbone, preprocessing, flip, dataset, count):
    plan = {"size_px": 96, "batch_size": 8, "flip": flip, "precision": "float32"}
    source = {"backbone": backbone, "plan": plan, "preprocessing": preprocessing, "runtime": "tensorflow"}
    keys = np.array([f"{number:064x}" for number in range(count)], "S64")
    made = FeatureStore(store_location.root() / name, source, 4, 2)
    made.put(Rows(keys, np.zeros((count, 4), np.float16), np.zeros((count, 2), np.float16)), dataset)
    return made


@pytest.fixture
def filled():
    whole = {"input_size_px": 96, "central_crop": 1.0, "resize": "bilinear"}  # as stores had it before `geometry`
    tiny = put("a" * 64, "tiny", whole, False, "digits", 3)
    put("a" * 64, "tiny", whole, False, "flowers", 5)
    cropped = {"input_size_px": 299, "central_crop": 0.875, "resize": "bicubic", "geometry": "crop"}
    put("b" * 64, "large", cropped, True, "digits", 7)
    return tiny


@pytest.fixture
def run(run_app):
    return functools.partial(run_app, "store")


def aged(path, days):
    """Sets when a file was last changed."""
    os.utime(path, (time.time() - days * 86_400,) * 2)


def names():
    return sorted(path.name[0] for path in store_location.root().iterdir())


def test_an_empty_store(run):
    assert f"{store_location.root()}: 0 images, 0.0 MB. dvc repro fills it" in run()[1]
    assert run("verify")[1] == "0 parts, 0 damaged. Nothing to be done\n"
    assert run("prune", "--all")[0] == 0


def test_it_shows_images_and_sizes_by_backbone_and_data_set(filled, run):
    printed = run("show")[1]
    lines = printed.splitlines()
    cells = [line.split() for line in lines[1:-1]]
    found = {(line[0], line[-5]): line[-4] for line in cells}
    assert found == {("large", "digits"): "7", ("tiny", "digits"): "3", ("tiny", "flowers"): "5"}
    assert "299 px crop 0.875 bicubic flip tensorflow float32" in printed
    size = sum(path.stat().st_size for path in store_location.root().glob("*/*.parquet"))
    total = f"{store_location.root()}: 15 images, {size / 1e6:,.1f} MB"
    assert lines[-1] == f"{total}. Make room: python -m app.store prune --unused-for 30"


def test_verify_removes_what_is_damaged_and_says_so(filled, run):
    assert run("verify")[0] == 0
    part = filled.parts()[0]
    part.write_bytes(part.read_bytes() + b"x")
    assert "1 unreadable parts" in run()[1]
    status, printed, _ = run("verify")
    assert status == 1
    assert f"removed {part}: damaged\n3 parts, 1 damaged. dvc repro computes again" in printed
    assert not part.exists()
    assert run("verify")[0] == 0


def test_prune_by_backbone_and_by_age_and_nothing_by_mistake(filled, run):
    for option in ((), ("--unused-for", "-1"), ("--unused-for", "nan")):
        status, _, err = run("prune", *option)
        rule = f"--unused-for must be >= 0. Received: {float(option[1])}" if option else "one of --backbone, --unused-"
        assert (status, rule in err) == (2, True)
    assert "would remove large 299 px" in run("prune", "--backbone", "large", "--dry-run")[1]
    aged(store_location.root() / ("a" * 64) / "source.json", 40)
    assert "40 days ago" in run()[1]
    run("prune", "--backbone", "large", "--unused-for", "30")
    assert names() == ["a", "b"]
    assert "removed tiny 96 px squash bilinear tensorflow float32: 40 days ago" in run("prune", "--unused-for", "30")[1]
    assert names() == ["b"]
    run("prune", "--all")
    assert names() == []


def test_a_source_that_cannot_be_read_is_shown_as_unknown(filled, run):
    path = store_location.root() / ("a" * 64) / "source.json"
    path.write_text("{")
    assert "\n? " in run()[1]
    artifacts.write_json(path, [1])
    assert run()[0] == 0
    run("prune", "--all")
    assert names() == []


# Killed trainings


@pytest.fixture
def killed():
    """Two trainings that were killed, one 40 days ago, one 2; beside each the lock file that a kill leaves."""
    folders = {cache_folder() / "checkpoints" / (name * 64): days for name, days in (("a", 40), ("b", 2))}
    for folder, days in folders.items():
        folder.mkdir(parents=True)
        folder.with_name(f"{folder.name}.lock").touch()
        for file, size in (("state.json", 1000), ("last-00000.weights.h5", 2_000_000)):
            (folder / file).write_bytes(b"x" * size)
            aged(folder / file, days)
    return [*folders]


def test_killed_trainings_are_shown_and_pruned_by_age(killed, run):
    line = run()[1].splitlines()[-1]
    assert line.startswith(f"{killed[0].parent}: 2 unfinished trainings, 4.0 MB, the oldest 40 days ago. ")
    assert "would remove the unfinished training aaaaaaaaaaaa" in run("prune", "--unused-for", "30", "--dry-run")[1]
    assert all(folder.is_dir() for folder in killed)
    printed = run("prune", "--unused-for", "30")[1]
    assert printed.startswith("removed the unfinished training aaaaaaaaaaaa: 40 days ago\n2.0 MB are free")
    assert sorted(path.name for path in killed[0].parent.iterdir()) == ["b" * 64, "b" * 64 + ".lock"]
    assert run("prune", "--backbone", "tiny")[1].startswith("0.0 MB are free")
    run("prune", "--all")
    assert list(killed[0].parent.iterdir()) == []


def test_a_training_that_runs_is_left_alone_and_a_file_that_vanishes_meanwhile_passed_over(killed, run):
    (killed[0] / "partial-last-00001.weights.h5").symlink_to("replaced")
    assert "2 unfinished trainings" in run()[1].splitlines()[-1]
    with artifacts.locked(killed[0].with_name(f"{killed[0].name}.lock"), "waiting"):
        assert f"left {killed[0]}: a run is at it" in run("prune", "--all")[1]
    assert [folder.is_dir() for folder in killed] == [True, False]
