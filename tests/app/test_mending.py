"""Decisions about labels as they are written: one after another, taken back, and from several windows at once."""

import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trained import BACKBONE

from app import findings
from app.findings import Finding, Images
from app.mending import ConflictError, Ledger
from app.models import Project
from stages.library.common import artifacts, tables
from stages.library.common.console import UserError
from stages.library.preparation import corrections
from tests import mended


@pytest.fixture
def corner(tmp_path):
    return mended.Corner(tmp_path)


@pytest.fixture
def ledger(corner):
    return Ledger(corner.path)


def decide(ledger, key, action="keep", label=""):
    return ledger.decide(key, action, label, "by hand", mended.CLASSES)


def test_the_last_decision_counts_and_undo_brings_back_the_one_before(corner, ledger):
    one, other, *_ = corner.keys
    first = decide(ledger, one, "relabel", "dog")
    decide(ledger, other, "drop")
    second = decide(ledger, one, "keep")
    assert corner.rows() == [(one, "relabel", "dog"), (other, "drop", ""), (one, "keep", "")]
    assert list(ledger.decisions()) == [other, one]
    ledger.undo(second)
    assert ledger.decisions()[one] == first
    ledger.undo(first)
    assert corner.rows() == [(other, "drop", "")]
    with pytest.raises(ConflictError, match="another window has changed this"):
        ledger.undo(first)
    assert corner.rows() == [(other, "drop", "")]


def test_what_breaks_a_rule_is_not_written(corner, ledger):
    for action, label, said in (
        ("relabel", "wolf", "there is no class 'wolf' in this data set"),
        ("relabel", "", "`label` must be the new class"),
        ("burn", "", "`action` must be among keep, relabel, drop"),
    ):
        with pytest.raises(UserError, match=said):
            decide(ledger, corner.keys[0], action, label)
    with pytest.raises(UserError, match="`sha256` must be 64 hex digits"):
        decide(ledger, "../../etc/passwd")
    assert corner.rows() == []
    corner.path.write_text("nonsense\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"corrections\.csv, line 1"):
        decide(ledger, corner.keys[0])
    assert corner.path.read_text(encoding="utf-8") == "nonsense\n"


def test_two_windows_at_once_lose_nothing(corner):
    """Ledgers of their own stand for two servers: no lock within one of them helps."""

    def work(keys):
        ledger = Ledger(corner.path)
        for key in keys:
            ledger.undo(decide(ledger, key, "drop"))
            decide(ledger, key, "relabel", "dog")

    parts = [corner.keys[part::3] for part in range(3)]
    threads = [threading.Thread(target=work, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(corner.rows()) == sorted((key, "relabel", "dog") for key in corner.keys)
    for part in parts:  # each window's in its order
        assert [key for key, *_ in corner.rows() if key in part] == part
    assert [path.name for path in corner.path.parent.iterdir() if path.is_file()] == ["corrections.csv"]


def test_undo_takes_back_no_decision_of_another_window(corner, ledger):
    key = corner.keys[0]
    mine = decide(ledger, key, "drop")
    decide(Ledger(corner.path), key, "relabel", "dog")
    with pytest.raises(ConflictError):
        ledger.undo(mine)
    assert corner.rows() == [(key, "drop", ""), (key, "relabel", "dog")]


def test_mistakes_are_of_the_test_images_most_confident_first(corner, tmp_path):
    keys = corner.keys[:4]  # cat, dog, emu, cat
    probabilities = [[0.3, 0.7, 0.0], [0.0, 1.0, 0.0], [0.9, 0.0, 0.1], [1.0, 0.0, 0.0]]
    table = pa.table({"key": [*keys, "f" * 64], "probabilities": [*probabilities, [1.0, 0.0, 0.0]]})
    pq.write_table(table, tmp_path / "predictions.parquet")
    found = list(findings.mistakes(tmp_path / "predictions.parquet", corner.images))
    assert found == [Finding(keys[2], "taken for cat, 90.0%", "cat"), Finding(keys[0], "taken for dog, 70.0%", "dog")]
    pq.write_table(pa.table({"key": keys, "probabilities": [[1.0, 0.0]] * 4}), tmp_path / "predictions.parquet")
    with pytest.raises(UserError, match=r"must have 3 classes\. Received: 2\. Run: dvc repro"):
        list(findings.mistakes(tmp_path / "predictions.parquet", corner.images))


def test_findings_are_those_of_an_audit_of_these_images(corner, tmp_path, write_params):
    project = Project.open(tmp_path, write_params(backbones=[BACKBONE]))
    folder = tmp_path / "artifacts" / "evaluation" / BACKBONE / "audit"
    folder.mkdir(parents=True)
    one, two, three, *_ = corner.keys
    issue = (one, "dog", 0.01, 0.99)
    tables.write_csv(folder / "label_issues.csv", findings.LABEL_ISSUES, [issue, ("f" * 64, *issue[1:])])
    pairs = [(one, "a", two, "b", 0.125), (one, "a", three, "c", 0.5)]
    tables.write_csv(folder / "near_duplicates.csv", findings.PAIRS, pairs)
    ranked = [(key, number / 1000) for number, key in enumerate(corner.keys * 3)]
    tables.write_csv(folder / "outliers.csv", findings.OUTLIERS, ranked)
    sha256 = artifacts.sha256_file(tmp_path / "data" / "tfrecord" / "dataset.json")
    numbers = {"images": 60, "all_images": 60, "label_issues": 1, "near_duplicate_pairs": 1}
    numbers |= {"near_duplicate_pairs_across_splits": 0, "near_duplicate_pairs_with_different_labels": 1}
    artifacts.write_json(folder / "audit.json", numbers | {"dataset": {"sha256": sha256}})
    found = findings.read(project, corner.images)
    assert found["label_issues"] == [Finding(one, "the label 1.0%, dog 99.0%", "dog")]
    about = {key: corner.images.place(key) for key in (one, two, three)}
    assert about[one] == "train, 0.png"
    assert found["near_duplicates"] == [
        Finding(one, f"0.12 from dog, {about[two]}", "dog"),
        Finding(two, f"0.12 from cat, {about[one]}", "cat"),
        Finding(three, f"0.50 from cat, {about[one]}", "cat"),
    ]
    assert [one.key for one in found["outliers"]] == corner.keys
    assert found["mistakes"] == []
    artifacts.write_json(folder / "audit.json", numbers | {"dataset": {"sha256": "0" * 64}})
    assert findings.read(project, corner.images) == {kind: [] for kind in findings.KINDS}


def test_images_are_named_with_their_classes(corner):
    images = Images(corner.path.parents[1])
    assert [images.label(key) for key in corner.keys[:3]] == mended.CLASSES
    assert images.encoded(corner.keys[0]).startswith(b"\x89PNG")
    assert "f" * 64 not in images
    assert np.isin(list(images.rows), corner.keys).all()
    assert corrections.read(corner.path) == []
