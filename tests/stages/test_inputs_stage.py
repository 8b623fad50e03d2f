"""The note on the user's files, which stands for them as a dep of DVC; and DVC over files that it can't hash itself."""

import json
import os
import shutil
import time

import pytest
from checkout import Project
from conftest import write_images

from stages.library.common import artifacts
from stages.library.common.console import UserError
from stages.library.networks import contract, weights
from stages.library.sources import fingerprints


@pytest.fixture
def noted(tmp_path, write_params, run_stage):
    """Runs the stage and returns its note."""

    def run(**changes):
        out, backbones = tmp_path / "inputs.json", tmp_path / "backbones"
        run_stage("inputs", "--params", write_params(**changes), "--out", out, "--backbones", backbones)
        return json.loads(out.read_text())

    return run


def test_only_what_the_data_set_reads_is_noted(noted, tmp_path, capsys):
    folder = write_images(tmp_path / "images", per_class=2)
    table, archive = tmp_path / "labels.csv", tmp_path / "archive.zip"
    table.write_text("filename,label\n")
    archive.write_bytes(b"archive")
    files = {"dataset__folder": str(folder), "dataset__table": str(table), "dataset__archive": str(archive)}
    files["dataset__archive_sha256"] = "0" * 64
    assert noted() == {}
    assert capsys.readouterr().out.startswith("inputs: no file of yours; ")
    assert list(noted(**files)) == ["archive"]
    assert list(noted(dataset__name="folder", **files)) == ["folder"]
    assert list(noted(dataset__name="table", **files)) == ["folder", "table"]
    assert capsys.readouterr().out.splitlines()[-1].startswith("inputs: dataset.folder, dataset.table; ")


def test_weights_are_noted_where_they_are_a_file(noted, tmp_path, capsys):
    path, note = tmp_path / "own.pth", tmp_path / "backbones" / "efficientnet_lite0.json"
    chosen = {"efficientnet_lite0": str(path), "inception_v3": "slim"}
    notes = []
    for content in (b"one", b"two"):
        path.write_bytes(content)
        assert noted(backbones=["efficientnet_lite0", "inception_v3"], extract__weights=chosen) == {}
        notes.append(json.loads(note.read_text()))
    assert [set(found) for found in notes] == [{"definition", "efficientnet_lite0"}] * 2
    assert notes[0]["efficientnet_lite0"] != notes[1]["efficientnet_lite0"]
    assert set(json.loads(note.with_name("inception_v3.json").read_text())) == {"definition"}
    path.unlink()
    noted(extract__weights=chosen)
    assert json.loads(note.read_text()) == notes[1]
    assert "`extract.weights.efficientnet_lite0` can't be read here" in capsys.readouterr().out
    assert [path.name for path in note.parent.iterdir()] == [note.name]  # inception_v3 is none of `backbones` now


def test_what_is_not_here_stays_as_noted(noted, tmp_path, capsys):
    folder = write_images(tmp_path / "images", per_class=2)
    changes = {"dataset__name": "folder", "dataset__folder": str(folder)}
    before = noted(**changes)
    folder.rename(tmp_path / "away")
    assert noted(**changes) == before
    assert f"inputs: `dataset.folder` can't be read here, {folder}: taken as it was" in capsys.readouterr().out
    (tmp_path / "inputs.json").unlink()
    assert noted(**changes) == {}


@pytest.mark.parametrize("name", ["/", "..", ".", "images/.."])
def test_a_folder_that_holds_the_checkout_is_an_error_before_it_is_read(noted, tmp_path, monkeypatch, name):
    write_images(tmp_path / "checkout" / "images", per_class=2)
    monkeypatch.chdir(tmp_path / "checkout")
    monkeypatch.setattr(fingerprints, "of", lambda *_: pytest.fail("it was read"))
    with pytest.raises(UserError, match=rf"`dataset\.folder` must hold images, not {tmp_path}/checkout among them\. R"):
        noted(dataset__name="folder", dataset__folder=name)


def add(path, content=b"text"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


CHANGES = {
    "a new file": lambda root: add(root / "cat" / "new.png"),
    "another content of the same length": lambda root: add(root / "dog" / "1.png", b"TEXT"),
    "text that becomes an image": lambda root: add(root / "cat" / "a.txt", b"P1 \n"),
    "a rename": lambda root: (root / "cat" / "a.txt").rename(root / "cat" / "b.txt"),
    "a move": lambda root: (root / "cat" / "a.txt").rename(root / "dog" / "a.txt"),
    "an empty folder": lambda root: (root / "emu").mkdir(),
    "a link to nothing": lambda root: (root / "cat" / "gone.png").symlink_to("nowhere"),
    "a file gone": lambda root: (root / "cat" / "a.txt").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_a_folder_shows_and_its_place_and_times_do_not(tmp_path, change):
    root, cache = tmp_path / "images", tmp_path / "cache" / "known"
    for name in ("cat/a.txt", "dog/1.png", "cat/caf\udce9.png"):
        add(root / name)
    os.mkfifo(root / "cat" / "pipe.png")
    old = time.time() - 100
    for path in root.rglob("*.*"):
        os.utime(path, (old, old))
    before = fingerprints.of(root, cache)
    (tmp_path / "link").symlink_to(root)
    os.utime(root / "dog" / "1.png")
    assert fingerprints.of(root, cache) == fingerprints.of(tmp_path / "link", tmp_path / "other") == before
    add(root / ".git" / "objects")
    (root / "Thumbs.db").write_bytes(b"")
    with_litter = fingerprints.of(root, cache)
    add(root / ".git" / "more")
    assert fingerprints.of(root, cache) == with_litter
    CHANGES[change](root)
    assert fingerprints.of(root, cache) not in (before, with_litter)


def test_a_file_that_stays_is_read_once_and_a_damaged_cache_is_no_harm(tmp_path, monkeypatch):
    root, cache = tmp_path / "images", tmp_path / "known"
    add(root / "cat" / "1.png")
    add(root / "cat" / "fresh.png")
    os.utime(root / "cat" / "1.png", (time.time() - 100,) * 2)
    before, read, real = fingerprints.of(root, cache), [], artifacts.sha256_file

    def counted(path):
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(artifacts, "sha256_file", counted)
    assert fingerprints.of(root, cache) == before
    assert read == ["fresh.png"]  # it may change again before the clock moves on
    cache.write_bytes(b"no database" * 100)
    assert fingerprints.of(root, cache) == before
    assert sorted(read) == ["1.png", "fresh.png", "fresh.png"]


def test_of_what_is_no_image_only_the_first_bytes_are_read(tmp_path, monkeypatch):
    root = tmp_path / "images"
    for name, content in {"cat/1": b"\xff\xd8\xff", "cat/2.png": b"text", "cat/film.mov": bytes(600)}.items():
        add(root / name, content)
    read, real = [], artifacts.sha256_file

    def counted(path):
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(artifacts, "sha256_file", counted)
    before = fingerprints.of(root, tmp_path / "known")
    assert read == ["1", "2.png"]
    add(root / "cat" / "film.mov", bytes(599) + b"x")
    assert fingerprints.of(root, tmp_path / "known") == before


@pytest.mark.slow
def test_dvc_reproduces_over_files_that_it_cannot_hash_and_sees_their_changes(tmp_path):
    project = Project(tmp_path / "project")
    pictures = tmp_path / "pictures"
    shutil.move(project.folder / "data" / "pictures", pictures)
    project.set({"dataset.folder": str(pictures)})
    (pictures / "cat" / "gone.png").symlink_to("nowhere")
    os.mkfifo(pictures / "cat" / "pipe.png")
    shutil.copy(pictures / "cat" / "0.png", os.fsencode(pictures / "cat") + b"/caf\xe9.png")
    assert project.repro("repro", "tfrecord") == {"fetch", "tfrecord"}
    rejected = (project.folder / "data" / "tfrecord" / "rejected.csv").read_text()
    assert "cat/gone.png,,can't be read: No such file or directory" in rejected
    assert "cat/pipe.png,,not a regular file" in rejected
    assert project.repro("repro", "tfrecord") == set()
    (pictures / "cat" / "pipe.png").unlink()
    assert project.repro("repro", "tfrecord") == {"fetch", "tfrecord"}
    pictures.rename(tmp_path / "away")
    assert project.repro("repro", "tfrecord") == set()


@pytest.mark.slow
def test_weights_replaced_at_their_path_are_read_again(tmp_path):
    project = Project(tmp_path / "project")
    shutil.copy(weights.locate(contract.lookup("efficientnet_lite0").BACKBONE, None), tmp_path / "own.pth")
    project.set({"extract.weights": {"efficientnet_lite0": str(tmp_path / "own.pth")}})
    extract = "bottleneck-extract@efficientnet_lite0"
    assert extract in project.repro("repro", extract)
    assert project.repro("repro", extract) == set()
    (tmp_path / "own.pth").write_bytes(b"no weights")
    with pytest.raises(AssertionError, match=r"own\.pth"):
        project.repro("repro", extract)


@pytest.mark.slow
def test_an_experiments_copy_finds_what_git_ignores_and_a_clone_needs_no_images(tmp_path):
    project = Project(tmp_path / "project")
    (project.folder / "data" / "pictures" / ".gitignore").write_text("*\n!.gitignore\n")
    project.git("rm", "-r", "-q", "--cached", "data/pictures")
    shutil.copytree(project.folder / "data" / "pictures", tmp_path / "beside")
    project.commit()
    assert project.repro("repro", "tfrecord") == {"fetch", "tfrecord"}
    project.commit()
    temporary = "exp", "run", "--temp", "tfrecord", "-S", "split.seed=4"
    assert "75 files in 3 classes" not in project.run("dvc", *temporary)  # fetch is as it was
    assert "75 files in 3 classes" in project.run("dvc", *temporary, "-S", "dataset.folder=../beside")
    project.git("clone", "-q", project.folder, tmp_path / "clone")
    shutil.copytree(project.folder / ".dvc" / "cache", tmp_path / "clone" / ".dvc" / "cache")
    project.folder = tmp_path / "clone"
    project.run("dvc", "checkout", "--allow-missing")
    assert project.repro("repro", "tfrecord") == set()
