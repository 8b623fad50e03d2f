"""Fingerprints change if and only if what they cover changes: of features, of data sets, of trainings, of files."""

import dataclasses
import functools
import itertools
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.library.common import artifacts, source_code
from stages.library.common.console import UserError
from stages.library.extraction import extraction, extraction_code
from stages.library.extraction import runtime as runtimes
from stages.library.extraction.runtime import Plan
from stages.library.features import cache
from stages.library.preparation import summary as dataset_summary
from stages.library.preparation.normalisation import Values
from stages.library.records import preprocessing
from stages.library.records.preprocessing import Preprocessing
from stages.library.records.tfrecord import Record
from stages.library.training import checkpoints
from stages.plugins.backbones import efficientnet_lite0, inception_v3

STAGES = Path(extraction.__file__).parents[2]

covered = st.tuples(
    st.sampled_from([efficientnet_lite0.BACKBONE, inception_v3.BACKBONE]),
    st.sampled_from(["a" * 64, "b" * 64]),
    st.builds(Preprocessing, st.sampled_from([32, 64]), st.sampled_from([1.0, 0.875]), st.sampled_from(["bilinear"])),
    st.builds(Plan, st.sampled_from([32, 64]), st.sampled_from([1, 2]), st.booleans(), st.just("int8")),
    st.sampled_from(["tensorflow", "openvino"]),
    st.sampled_from(["", "c" * 64]),
)


def fingerprint(*arguments):
    return extraction.fingerprint(extraction.covered(*arguments))


@pytest.fixture
def code_read_once(monkeypatch):
    """For tests with many fingerprints; while they run the code doesn't change."""
    monkeypatch.setattr(extraction_code, "files", functools.cache(extraction_code.files))
    hashed = functools.cache(source_code.sha256)
    monkeypatch.setattr(source_code, "sha256", lambda paths: hashed(frozenset(paths)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(covered, covered)
@pytest.mark.usefixtures("code_read_once")
def test_features_of_two_ways_share_a_fingerprint_only_where_the_ways_are_the_same(ours, theirs):
    assert (fingerprint(*ours) == fingerprint(*theirs)) == (ours == theirs)


BASE = efficientnet_lite0.BACKBONE, "a" * 64, Preprocessing(32), Plan(32, 4, False, "float32"), "tensorflow", "s"


@pytest.mark.usefixtures("code_read_once")
def test_each_part_of_what_features_depend_on_changes_their_fingerprint(monkeypatch):
    backbone, weights, preparation, plan, *_ = BASE
    found = [
        fingerprint(*BASE),
        fingerprint(inception_v3.BACKBONE, *BASE[1:]),
        fingerprint(backbone, "b" * 64, *BASE[2:]),
        *(
            fingerprint(backbone, weights, dataclasses.replace(preparation, **change), *BASE[3:])
            for change in ({"input_size_px": 33}, {"central_crop": 0.5}, {"resize": "bicubic"})
        ),
        *(
            fingerprint(*BASE[:3], dataclasses.replace(plan, **change), *BASE[4:])
            for change in ({"size_px": 33}, {"batch_size": 5}, {"flip": True}, {"precision": "int8"})
        ),
        fingerprint(*BASE[:4], "openvino", "s"),
        fingerprint(*BASE[:5], "t"),
    ]
    for module, name, value in (
        (preprocessing, "DESCRIPTION", "other ops"),
        (runtimes, "FORWARD_OUTPUTS", ("bottleneck",)),
        (cache, "DTYPE", "float32"),
        (extraction_code, "version", lambda package: "0"),
        (extraction_code, "version", lambda package: "1"),
        (source_code, "sha256", lambda paths: "d" * 64),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            found.append(fingerprint(*BASE))
    assert len(set(found)) == len(found)


def test_the_covered_content_is_what_the_store_shows():
    assert extraction.covered(*BASE) == {
        "code": source_code.sha256(extraction_code.files("efficientnet_lite0", "tensorflow")),
        "versions": {package: metadata.version(package) for package in ("keras", "tensorflow")},
        "backbone": "efficientnet_lite0",
        "weights_sha256": "a" * 64,
        "preprocessing": {
            "description": preprocessing.DESCRIPTION,
            "input_size_px": 32,
            "central_crop": 1.0,
            "resize": "bilinear",
        },
        "runtime": "tensorflow",
        "plan": {"size_px": 32, "batch_size": 4, "flip": False, "precision": "float32"},
        "calibration": "s",
        "forward_outputs": ("bottleneck", "logits"),
        "dtype": "float16",
    }
    assert extraction.covered(*BASE[:5])["calibration"] == ""


def test_the_covered_code_is_what_turns_bytes_into_features_by_one_backbone_and_one_runtime():
    files = extraction_code.files("inception_v3", "openvino")
    found = {path.relative_to(STAGES).as_posix() for path in files if STAGES in path.parents}
    assert found > {
        "plugins/backbones/inception_v3.py",
        "library/features/cache.py",
        "library/extraction/cpu_pixels.py",
        "library/extraction/decoding.py",
        "library/extraction/worker.py",
        "library/extraction/frozen_graph.py",
        "library/extraction/gpu_pixels.py",
        "library/networks/keras_weights.py",
        "library/records/preprocessing.py",
        "library/extraction/resampling.py",
        "library/extraction/runtimes/openvino.py",
        "library/networks/slim_checkpoint.py",
        "library/extraction/batch_slots.py",
        "library/common/tensorflow_runtime.py",
        "library/networks/weights.py",
    }
    assert not found & {f"library/{name.replace('.', '/')}.py" for name in extraction_code.MOVING}
    family = {path.name for path in extraction_code.files("efficientnet_lite0", "tensorflow")}
    assert family > {"efficientnet_lite0.py", "efficientnet_lite.py"}
    assert (
        not {
            "plugins/backbones/efficientnet_lite0.py",
            "library/networks/efficientnet_lite.py",
            "library/extraction/runtimes/tensorflow.py",
            "library/networks/torch_weights.py",
        }
        & found
    )


def test_a_runtimes_packages_are_covered_and_a_missing_one_is_named(monkeypatch):
    assert set(extraction_code.versions("openvino", "int8")) == {"keras", "nncf", "openvino", "tensorflow"}
    assert set(extraction_code.versions("openvino", "float32")) == {"keras", "openvino", "tensorflow"}

    def missing(package):
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(extraction_code, "version", missing)
    with pytest.raises(UserError, match=r"`extract\.runtime: openvino`.*keras.*-r requirements-openvino\.txt"):
        extraction_code.versions("openvino", "float32")


def test_what_is_said_of_a_backbone_for_people_is_not_covered():
    told = dataclasses.replace(efficientnet_lite0.BACKBONE, paper="another", top1=0.1, blocks={}, weights={})
    assert fingerprint(told, *BASE[1:]) == fingerprint(*BASE)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def ordered(content, key):
    """The same JSON value with the keys of its objects in another order."""
    if isinstance(content, dict):
        return {name: ordered(content[name], key) for name in sorted(content, key=key)}
    return [ordered(item, key) for item in content] if isinstance(content, list) else content


@given(json_values, json_values)
def test_canonical_json_is_the_same_for_the_same_value_alone(ours, theirs):
    same = repr(ordered(ours, str)) == repr(ordered(theirs, str))  # 1 and True are equal, and other values
    assert (artifacts.canonical_json(ours) == artifacts.canonical_json(theirs)) == same
    turned = ordered(ours, lambda name: name[::-1])
    assert artifacts.canonical_json(turned) == artifacts.canonical_json(ours)


NAMES = st.text(st.sampled_from('ab\n"\udce9\udcea ['), min_size=1, max_size=4)
IMAGES = st.lists(st.tuples(st.sampled_from(["train", "test"]), st.sampled_from("xyz"), NAMES), max_size=4)


def content_sha256(images):
    summary = dataset_summary.Summary()
    for number, (split, key, text) in enumerate(images):
        record = Record(key, b"", "png", 2, 3, 0, text, f"{number}.png")
        summary.add(split, record, Values(number, number, 6 * number, 6))
    return summary.content("any", len(images))["content_sha256"]


@settings(max_examples=200)
@given(IMAGES.filter(len), IMAGES.filter(len))
def test_data_sets_share_a_hash_only_with_the_same_images_in_the_same_splits_and_classes(ours, theirs):
    assert (content_sha256(ours) == content_sha256(theirs)) == (sorted(ours) == sorted(theirs))
    assert content_sha256(ours[::-1]) == content_sha256(ours)


def test_class_names_of_several_lines_and_of_no_text_are_told_apart():
    assert content_sha256([("test", "x", "\udce9")]) != content_sha256([("test", "x", "\udcea")])
    assert content_sha256([("test", "x", "a\ntest y b")]) != content_sha256([("test", "x", "a"), ("test", "y", "b")])


def test_the_fingerprint_of_a_training_covers_settings_code_and_versions(tmp_path, monkeypatch):
    library = tmp_path / "stages" / "library"
    library.mkdir(parents=True)
    (library / "a.py").write_text("1")
    monkeypatch.setattr(checkpoints, "__file__", str(library / "training" / "checkpoints.py"))
    versions = {"keras": "1", "tensorflow": "2"}
    monkeypatch.setattr(checkpoints, "version", versions.__getitem__)
    found = [checkpoints.fingerprint("finetune", {"a": 1, "b": 2})]
    assert checkpoints.fingerprint("finetune", {"b": 2, "a": 1}) == found[0]
    (library / "table.csv").write_text("no code")
    assert checkpoints.fingerprint("finetune", {"a": 1, "b": 2}) == found[0]
    found += [checkpoints.fingerprint(*some) for some in (("scratch", {"a": 1, "b": 2}), ("finetune", {"a": 1}))]

    def changed(path, text):
        path.write_text(text)
        found.append(checkpoints.fingerprint("finetune", {"a": 1, "b": 2}))

    changed(library / "a.py", "2")
    changed(library.parent / "finetune.py", "1")
    (library / "a.py").rename(library / "b.py")
    changed(library.parent / "finetune.py", "1")
    for package in versions:
        versions[package] += ".1"
        found.append(checkpoints.fingerprint("finetune", {"a": 1, "b": 2}))
    assert all(ours != theirs for ours, theirs in itertools.combinations(found, 2))
