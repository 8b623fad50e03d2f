"""Fingerprints change if and only if what they cover changes: of features, of data sets, of trainings."""

from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.library.common import artifacts, source_code
from stages.library.common.console import UserError
from stages.library.extraction import extraction, extraction_code
from stages.library.extraction.runtime import Plan
from stages.library.networks import contract
from stages.library.preparation import summary as dataset_summary
from stages.library.preparation.normalisation import Values
from stages.library.preparation.splits import Split
from stages.library.records import preprocessing
from stages.library.records.preprocessing import Preprocessing
from stages.library.records.tfrecord import Record
from stages.library.training import checkpoints
from stages.plugins.backbones import inception_v3

STAGES = Path(extraction.__file__).parents[2]
LITE0, V3 = contract.lookup("efficientnet_lite0").BACKBONE, inception_v3.BACKBONE
BILINEAR = (
    Preprocessing(32, 1.0, "bilinear", "pad", (1.0, 2.0, 3.0)),
    {"input_size_px": 32, "central_crop": 1.0, "resize": "bilinear", "geometry": "pad", "bars_rgb": (1.0, 2.0, 3.0)},
)
BICUBIC = (
    Preprocessing(33, 0.5, "bicubic", "crop"),
    {"input_size_px": 33, "central_crop": 0.5, "resize": "bicubic", "geometry": "crop", "bars_rgb": (127.5,) * 3},
)
FLOAT32 = {"size_px": 32, "batch_size": 4, "flip": False, "precision": "float32"}
INT8 = {"size_px": 33, "batch_size": 5, "flip": True, "precision": "int8"}


@pytest.mark.parametrize(
    ("backbone", "sha256", "prepared", "plan", "runtime", "packages", "sample"),
    [
        (LITE0, "a" * 64, BILINEAR, FLOAT32, "tensorflow", ("keras", "tensorflow"), ""),
        (V3, "b" * 64, BICUBIC, INT8, "openvino", ("keras", "nncf", "openvino", "tensorflow"), "c" * 64),
    ],
)
def test_features_have_a_fingerprint_over_all_that_they_depend_on_and_the_store_shows(
    backbone, sha256, prepared, plan, runtime, packages, sample
):
    told = replace(backbone, paper="another", top1=0.1, blocks={}, weights={})  # for people
    arguments = told, sha256, prepared[0], Plan(**plan), runtime, *([sample] if sample else [])
    content = {
        "code": source_code.sha256(extraction_code.files(backbone.name, runtime)),
        "versions": {package: metadata.version(package) for package in packages},
        "backbone": backbone.name,
        "definition": contract.definition(backbone.name),
        "weights_sha256": sha256,
        "feature_width": backbone.feature_width,
        "preprocessing": {"description": preprocessing.DESCRIPTION, **prepared[1]},
        "runtime": runtime,
        "plan": plan,
        "calibration": sample,
        "forward_outputs": ("bottleneck", "logits"),
        "dtype": "float16",
    }
    assert extraction.covered(*arguments) == content
    assert extraction.fingerprint(content) == artifacts.sha256_bytes(artifacts.canonical_json(content).encode())


def test_the_covered_code_is_what_turns_bytes_into_features_by_one_backbone_and_one_runtime():
    def covered(*names):
        paths = extraction_code.files(*names)
        return {str(path.relative_to(STAGES).with_suffix("")) for path in paths if STAGES in path.parents}

    found, other = covered("inception_v3", "openvino"), covered("efficientnet_lite0", "tensorflow")
    for room, names in {
        "extraction": ["batch_slots", "pixels", "resampling", "runtime", "runtimes/openvino", "worker"],
        "networks": ["keras_applications", "slim_checkpoint", "weights"],
        "features": ["cache"],
        "records": ["preprocessing"],
        "common": ["tensorflow_runtime"],
    }.items():
        assert {f"library/{room}/{name}" for name in names} <= found
    assert not found & {f"library/{room}/{name}" for room, names in extraction_code.MOVING.items() for name in names}
    assert "plugins/backbones/inception_v3" in found - other
    assert not any(name.startswith("plugins/backbones/families/") for name in other)  # rows count one by one
    own = {"library/extraction/runtimes/tensorflow"}
    assert own | {f"library/networks/{name}" for name in ("efficientnet_lite", "torch_weights")} <= other - found


def test_a_missing_package_of_a_runtime_is_named(monkeypatch):
    assert set(extraction_code.versions(inception_v3.BACKBONE, "openvino", "float32")) == {
        "keras",
        "openvino",
        "tensorflow",
    }
    assert set(extraction_code.versions(inception_v3.BACKBONE, "openvino", "int8")) == {
        "keras",
        "nncf",
        "openvino",
        "tensorflow",
    }

    def missing(package):
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(extraction_code, "version", missing)
    with pytest.raises(UserError, match=r"`extract\.runtime: openvino`.*keras.*-r requirements-openvino\.txt"):
        extraction_code.versions(inception_v3.BACKBONE, "openvino", "float32")


NAMES = st.text(st.sampled_from('ab\n"\udce9\udcea ['), min_size=1, max_size=4)
IMAGES = st.lists(st.tuples(st.sampled_from(["train", "test"]), st.sampled_from("xyz"), NAMES), min_size=1, max_size=4)


def content_sha256(images):
    summary = dataset_summary.Summary()
    for number, (split, key, text) in enumerate(images):
        record = Record(key, b"", "png", 2, 3, 0, text, f"{number}.png")
        summary.add(record, Values(number, number, 6 * number, 6), split)
    drawn = Split(summary.images.decided, summary.images.numbers)
    return summary.content("any", drawn, len(images))["content_sha256"]


@settings(max_examples=200)
@example([("test", "x", "\udce9")], [("test", "x", "\udcea")])
@example([("test", "x", "a\ntest y b")], [("test", "x", "a"), ("test", "y", "b")])
@given(IMAGES, IMAGES)
def test_data_sets_share_a_hash_only_with_the_same_images_in_the_same_splits_and_classes(ours, theirs):
    assert (content_sha256(ours) == content_sha256(theirs)) == (sorted(ours) == sorted(theirs))
    assert content_sha256(ours[::-1]) == content_sha256(ours)


def test_the_fingerprint_of_a_training_covers_settings_code_and_versions(tmp_path, monkeypatch):
    library = tmp_path / "stages" / "library"
    library.mkdir(parents=True)
    (library / "a.py").write_text("1")
    monkeypatch.setattr(checkpoints, "__file__", str(library / "training" / "checkpoints.py"))
    versions = {"keras": "1", "tensorflow": "2"}
    monkeypatch.setattr(checkpoints, "version", versions.__getitem__)

    def fingerprint():
        return checkpoints.fingerprint("finetune", {"a": 1, "b": 2})

    first = fingerprint()
    assert checkpoints.fingerprint("finetune", {"b": 2, "a": 1}) == first
    (library / "table.csv").write_text("no code")
    assert fingerprint() == first
    found = [
        first,
        *(checkpoints.fingerprint(*some) for some in (("scratch", {"a": 1, "b": 2}), ("finetune", {"a": 1}))),
    ]
    for path, text in ((library / "a.py", "2"), (library.parent / "finetune.py", "1")):
        path.write_text(text)
        found.append(fingerprint())
    (library / "a.py").rename(library / "b.py")
    found.append(fingerprint())
    for package in versions:
        versions[package] += ".1"
        found.append(fingerprint())
    assert len(set(found)) == len(found)
