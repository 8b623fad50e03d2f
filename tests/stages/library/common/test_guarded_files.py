"""Our own files, damaged or made by a stranger: what is accepted has its types, all else is one line with the file."""

import json
import os
from dataclasses import asdict, replace

import described
import hostile_documents
import numpy as np
import pytest

from stages.library.common import artifacts, guarded_files
from stages.library.common.console import UserError
from stages.library.features.source import Joined, Source
from stages.library.heads import trained_head
from stages.library.heads.dense import Dense, DenseNetwork
from stages.library.heads.trained_head import TrainedHead
from stages.library.records import dataset_file
from stages.library.records.preprocessing import Preprocessing
from stages.library.report import fewshot_results, leaderboard
from stages.library.report import page as report_page
from stages.library.report.fewshot_results import FewShot
from stages.library.scoring import result_files

CLASSES = ("ant", "bee")
SOURCE = Source("tiny", Preprocessing(32), False, "a" * 64, "f" * 64, CLASSES)
METRICS = {"top1_accuracy": 0.9, "top1_accuracy_interval": {"low": 0.8, "high": 0.95}, "top5_accuracy": 1.0}
METRICS |= {"calibration": {"temperature": 0.5, "expected_calibration_error_before": 0.1}, "num_examples": 100}
METRICS |= {"cross_validation": {"top1_accuracy": {"mean": 0.9, "std": 0.01}}, "size_bytes": 1000}
SELECTION = {"top1_accuracy": 0.5, "balanced_accuracy": 0.5, "macro_f1": 0.5, "log_loss": 0.5}
METRICS |= {"classes": {"ant": {"recall": 0.5, "count": 3}}, "validation": SELECTION | {"num_examples": 9}}
METRICS |= {"training_mode": {"top1_accuracy": 0.5}}
ON = {"name": "noise", "sha256": "d"}
MOMENTS = {"mean": 0.9, "std": 0.01}
FEW_SHOT = {"top1_accuracy": MOMENTS, "balanced_accuracy": MOMENTS, "num_examples": 9}
FOUND = ("images", "all_images", "label_issues", "near_duplicate_pairs", "near_duplicate_pairs_across_splits")
AUDIT = {**dict.fromkeys(FOUND, 3), "dataset": ON}


def leaderboard_of(path):
    result = leaderboard.Result("a/ridge", "ridge", "a", result_files.read_metrics(path), path.parent)
    leaderboard.cells(result, "log_loss")
    leaderboard.headings("log_loss")
    leaderboard.as_csv([result])
    leaderboard.measured([result], {"ridge": "bottleneck"})


def texts(about, *names):
    return "".join([about["dataset"]["sha256"], *(about[name] or "" for name in names)])


def fewshot(path):
    about = result_files.read_fewshot(path)
    return texts(about, "features") + f"{about['repeats']:,}" + "".join(about["classes_left_out"])


def fewshot_metrics(path):
    numbers = result_files.read_fewshot_metrics(path)
    for background, own in (("with", numbers), ("without", numbers.get("without_background", numbers))):
        few = FewShot("a", "ridge", 5, "bottleneck", 2, background, own, True, [])
        fewshot_results.cells(few)
        list(fewshot_results.measured([few]))


def head_folder(folder, source=SOURCE):
    shapes = (4, 3), (3, 2)
    layers = tuple(Dense(np.ones(shape, np.float32), np.zeros(shape[1], np.float32)) for shape in shapes)
    TrainedHead("ridge", DenseNetwork(layers), "bottleneck", 4, source, {"penalty": 1.0}, 1.5).save(folder)
    return folder


def head(path):
    trained = trained_head.load(path.parent)
    assert trained.logits(np.ones((2, 4), np.float16)).shape == (2, len(trained.source.classes))


READERS = {
    "dataset.json": (described.dataset(), lambda path: report_page.facts(dataset_file.read(path))),
    "metrics.json": (METRICS, leaderboard_of),
    "evaluation.json": (
        {"model": "ridge", "kind": "head", "backbone": "a", "dataset": ON},
        lambda path: texts(result_files.read_evaluation(path), "model", "backbone"),
    ),
    "fewshot.json": ({"features": "bottleneck", "repeats": 2, "classes_left_out": ["bee"], "dataset": ON}, fewshot),
    "5.json": (FEW_SHOT | {"without_background": FEW_SHOT}, fewshot_metrics),
    "audit.json": (AUDIT, lambda path: "".join(f"{dict(result_files.read_audit(path))[key]:,}" for key in FOUND)),
    "cross_validation.json": (
        {"top1_accuracy": {"mean": 0.9, "std": 0.1}},
        lambda path: [sum(numbers.values()) for numbers in result_files.read_cross_validation(path).values()],
    ),
}


@pytest.mark.parametrize("name", [*READERS, "head.json", "config.json"])
def test_every_variant_is_used_or_rejected_in_one_line(tmp_path, name):
    path = head_folder(tmp_path) / name
    document, read = READERS.get(name) or (json.loads(path.read_text()), head)
    check_variants(path, document, read)


def test_every_variant_of_a_joined_head_is_used_or_rejected_in_one_line(tmp_path):
    path = head_folder(tmp_path, Joined((SOURCE, replace(SOURCE, backbone="small")), (1.0, 0.3))) / "head.json"
    assert trained_head.load(tmp_path).source.backbone == "tiny+small"
    check_variants(path, json.loads(path.read_text()), head)


def check_variants(path, document, read):
    artifacts.write_json(path, document)
    read(path)
    contents, found = hostile_documents.variants(document), []
    for content in contents:
        path.write_bytes(content)
        try:
            read(path)
        except UserError as error:
            found.append(str(error))
    assert all(len(line.splitlines()) == 1 and str(path.parent) in line and len(line) <= 2000 for line in found)
    assert len(found) > max(len(contents) - len(found), 40)


def test_a_head_whose_files_do_not_belong_together_is_rejected(tmp_path):
    head_folder(tmp_path)
    for key, value in (("dim", 5), ("features", "pixels"), ("head", "os.path"), ("num_classes", 3)):
        content = json.loads((tmp_path / "head.json").read_text())
        artifacts.write_json(tmp_path / "head.json", content | {key: value})
        with pytest.raises(UserError, match=r"Run: dvc repro -f train-heads$"):
            trained_head.load(tmp_path)
        artifacts.write_json(tmp_path / "head.json", content)
    with pytest.raises(UserError, match="takes 4 features an image, and its backbone gives 5"):
        trained_head.load(tmp_path).logits(np.ones((1, 5), np.float16))


def test_what_is_no_file_is_rejected_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, target in (("zero", "/dev/zero"), ("loop", "loop")):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(b" " * 101)
    for name in ("pipe", "zero", "loop", "folder", "large", "nowhere", "x" * 300, "a\0b"):
        with pytest.raises(UserError, match=r"Run: dvc repro$") as caught:
            guarded_files.read_text(tmp_path / name, 100)
        assert len(str(caught.value).splitlines()) == 1


def test_a_conflict_is_named_with_its_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n<<<<<<< HEAD\n1,2\n=======\n1,3\n>>>>>>> theirs\n")
    said = (
        r"a\.csv has the mark of a merge conflict in line 2, '<<<<<<< HEAD'\. Take .* git checkout --ours or --theirs "
    )
    with pytest.raises(UserError, match=said):
        guarded_files.read_text(path)
    path.write_text("a\n=======\n<<<<<<<<<<\n")  # a rule of eight or more is none
    assert guarded_files.read_text(path) == path.read_text()


def test_the_key_the_rule_and_the_value_are_named(tmp_path):
    path = tmp_path / "dataset.json"
    artifacts.write_json(path, described.dataset() | {"images": -1, "classes": ["a", 5]})
    rules = "`images` must .* equal to 0. Received: -1; `classes.1` must be a text. Received: 5"
    with pytest.raises(UserError, match=f"^{path}: {rules}. Run: dvc repro -f tfrecord$"):
        dataset_file.read(path)


def test_what_is_read_is_what_was_written(tmp_path):
    path, source = tmp_path / "a.json", replace(SOURCE, classes=("ü", "日本"))
    for content, kind in ((described.dataset(), dataset_file.Dataset), (source, Source)):
        artifacts.write_json(path, content if kind is dataset_file.Dataset else asdict(content))
        assert guarded_files.read_json(path, kind) == content
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert guarded_files.read_json(path, kind) == content
