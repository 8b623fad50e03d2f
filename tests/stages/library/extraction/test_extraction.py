"""Extraction, end to end on small shards, against the model called directly."""

import dataclasses
import re
import shutil
import sys

import contents
import insects
import keras_layouts
import numpy as np
import pyarrow.parquet as pq
import pytest
import sharded
from conftest import changed_params
from section import section

from stages.library.common import store_location, tensorflow_runtime
from stages.library.common.console import UserError
from stages.library.extraction import extraction, feature_store, feature_table, ray_engine, worker
from stages.library.extraction.extraction import Extracted
from stages.library.extraction.feature_store import FeatureStore
from stages.library.extraction.runtime import Plan
from stages.library.features import cache
from stages.library.features.source import Source
from stages.library.networks import contract as backbones
from stages.library.networks import weights
from stages.library.records import manifest as manifests
from stages.library.records import preprocessing
from stages.library.records.preprocessing import Preprocessing
from stages.library.records.tfrecord import SPLITS
from stages.plugins.backbones import inception_v3
from tests import processes


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Seventeen images in nine shards, some of them empty; JPEG and PNG, colour and grey, of several sizes."""
    counts = {"train": (7, 0, 4), "validation": (1, 2, 0), "test": (0, 0, 3)}
    return insects.shards(tmp_path_factory.mktemp("tfrecord"), counts, seed=0)


def extract(shards, out, batch_size=5, name="efficientnet_lite0", need_logits=(), **changes):
    out.mkdir(exist_ok=True)
    params = insects.options(batch_size, **changes)
    return extraction.extract(name, params, shards, insects.DATASET, out, need_logits)


@pytest.fixture(scope="module")
def extracted(shards, tmp_path_factory):
    """Batches of 5 cross the borders of shards and splits."""
    out = tmp_path_factory.mktemp("bottlenecks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DECANT_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert extract(shards, out) == Extracted(images=17, computed=17, size_px=insects.SIZE_PX)
    return out


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(feature_store, "ROWS_PER_PART", 5)
    monkeypatch.setattr(worker, "IMAGES_AT_ONCE", 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chosen", "flip"),
    [(("squash", 1.0, "bilinear"), False), (("crop", 0.5, "bicubic"), True), (("pad", 1.0, "bilinear"), False)],
)
def test_features_are_those_of_the_model_in_the_order_of_the_shards_and_say_what_made_them(
    shards, tmp_path, chosen, flip
):
    geometry, crop, resize = chosen
    extract(shards, tmp_path, geometry=geometry, central_crop=crop, resize=resize, flip=flip)
    tensorflow_runtime.start()
    model, backbone, sha256 = weights.build_with_weights("efficientnet_lite0", insects.SIZE_PX, {})
    preparation = Preprocessing(insects.SIZE_PX, crop, resize, geometry, (127.0,) * 3)
    manifest = manifests.read(shards)
    written = {f"{path.stem}.parquet": count for path, count in zip(manifest.paths, manifest.counts, strict=True)}
    assert {path.name: pq.read_metadata(path).num_rows for path in tmp_path.iterdir()} == written
    encoded = [record.encoded for record in manifest.records(range(17))]
    images = np.stack([preprocessing.fit(preprocessing.decode(content), preparation) for content in encoded])
    views = [images, images[:, :, ::-1]] if flip else [images]
    for kind in ("bottleneck", "logits"):
        cached = cache.load(tmp_path, SPLITS, kind)
        expected = np.mean([model(view, training=False)[kind] for view in views], axis=0)
        assert cached.keys.tolist() == manifest.keys.astype(str).tolist()
        np.testing.assert_array_equal(cached.labels, manifest.labels)
        assert cached.values.dtype == np.float16
        np.testing.assert_allclose(cached.values.astype(np.float32), expected, rtol=1e-3, atol=1e-3)
    plan = Plan(insects.SIZE_PX, 5, flip, "float32")
    identity = extraction.fingerprint(extraction.covered(backbone, sha256, preparation, plan, "tensorflow"))
    about = "efficientnet_lite0", preparation, flip
    assert sha256 == backbones.lookup("efficientnet_lite0").BACKBONE.weights["pytorch"].sha256
    assert cached.source == Source(*about, sha256, identity, insects.CLASSES)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["tensorflow", pytest.param("openvino", marks=pytest.mark.slow)])
def test_weights_without_a_top_give_features_alone(shards, tmp_path, runtime):
    path, name = tmp_path / "notop.h5", "mobilenet_v3_small"
    keras_layouts.write_legacy_h5(path, keras_layouts.original(name, include_top=False))
    changes = {"weights": {name: str(path)}, "runtime": runtime, "input_size_px": 32, "name": name}
    assert extract(shards, tmp_path / "out", **changes).computed == 17
    assert cache.load(tmp_path / "out", SPLITS, "bottleneck").values.shape == (17, 576)
    assert "logits" not in pq.read_schema(next((tmp_path / "out").glob("*.parquet"))).names
    setting = "`ridge.features: joined`"
    with pytest.raises(
        UserError, match=rf"^{setting} needs a backbone's logits.* {name} has no top\. Set it to bottleneck"
    ):
        extract(shards, tmp_path / "out", need_logits=[setting], **changes)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 64])
def test_features_hardly_depend_on_the_batch_size(shards, extracted, tmp_path, batch_size):
    extract(shards, tmp_path, batch_size)
    ours, others = (cache.load(folder, SPLITS, "joined") for folder in (tmp_path, extracted))
    np.testing.assert_array_equal(ours.keys, others.keys)
    spacing = np.spacing(np.maximum(np.abs(others.values), np.float16(1)))
    assert np.all(np.abs(ours.values - others.values) <= spacing)


def test_what_was_computed_here_is_not_read_again_and_written_in_blocks_of_rows(shards, tmp_path, monkeypatch):
    def reject(self, parts):
        raise AssertionError(parts)

    monkeypatch.setattr(FeatureStore, "read", reject)
    monkeypatch.setattr(feature_table, "ROWS_PER_BLOCK", 3)
    assert extract(shards, tmp_path).computed == 17
    metadata = pq.ParquetFile(tmp_path / "train-00000-of-00003.parquet").metadata
    assert [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)] == [3, 3, 1]


@pytest.mark.slow
@pytest.mark.parametrize("limits", [(1, 1 << 24), (10, 1 << 24), (64, 1)])
def test_how_many_batches_are_prepared_at_once_changes_nothing(shards, extracted, tmp_path, monkeypatch, limits):
    for name, limit in zip(("IMAGES_AT_ONCE", "BYTES_AT_ONCE"), limits, strict=True):
        monkeypatch.setattr(worker, name, limit)
    assert extract(shards, tmp_path).computed == 17
    assert contents.of(tmp_path) == contents.of(extracted)


@pytest.mark.slow
def test_a_second_run_computes_nothing_and_gives_the_same_bytes(shards, extracted, tmp_path):
    assert extract(shards, tmp_path / "first").computed == 17
    assert extract(shards, tmp_path / "second").computed == 0
    shutil.rmtree(store_location.root())
    assert extract(shards, tmp_path / "third").computed == 17
    for name in ("first", "second", "third"):
        assert contents.of(tmp_path / name) == contents.of(extracted)


@pytest.mark.slow
@pytest.mark.parametrize("rows_per_part", [1, 4, 1000])
def test_a_killed_run_goes_on_where_it_was_with_the_bytes_of_an_undisturbed_one(
    shards, extracted, tmp_path, monkeypatch, small_parts, rows_per_part
):
    monkeypatch.setattr(feature_store, "ROWS_PER_PART", rows_per_part)
    put, left = FeatureStore.put, 2

    def killed(self, rows, dataset):
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        put(self, rows, dataset)

    monkeypatch.setattr(FeatureStore, "put", killed)
    computed = 17
    for _ in range(20):
        left = 2
        try:
            computed = extract(shards, tmp_path / "out").computed
            break
        except KeyboardInterrupt:
            assert list((tmp_path / "out").iterdir()) == []
    assert computed < 17 or rows_per_part == 1000
    assert contents.of(tmp_path / "out") == contents.of(extracted)


@pytest.mark.slow
@pytest.mark.parametrize("place", [0.5, 1])  # within the features, and at the end, so that no key can be read
def test_a_damaged_part_is_computed_again(shards, extracted, tmp_path, small_parts, place):
    extract(shards, tmp_path / "first")
    part = sorted(store_location.root().glob("*/*.parquet"))[1]
    damaged = bytearray(part.read_bytes())
    damaged[int(place * (len(damaged) - 1))] ^= 1
    part.write_bytes(damaged)
    assert 0 < extract(shards, tmp_path / "second").computed < 17
    assert contents.of(tmp_path / "second") == contents.of(extracted)
    assert extract(shards, tmp_path / "third").computed == 0


@pytest.mark.slow
def test_other_splits_and_other_classes_compute_nothing(shards, extracted, tmp_path):
    extract(shards, tmp_path / "first")
    everything = sorted(manifests.read(shards).records(range(17)), key=lambda record: record.key[::-1])
    unlabelled = [dataclasses.replace(record, label=0) for record in everything]
    shuffled = unlabelled[:9], unlabelled[9:12], unlabelled[12:]
    sharded.write(tmp_path / "shuffled", {split: [some] for split, some in zip(SPLITS, shuffled, strict=True)})
    assert extract(tmp_path / "shuffled", tmp_path / "second").computed == 0
    ours, others = (cache.load(folder, SPLITS, "joined") for folder in (tmp_path / "second", extracted))
    order = [others.keys.tolist().index(key) for key in ours.keys]
    np.testing.assert_array_equal(ours.values, others.values[order])
    assert set(ours.labels) == {0}


def test_int8_is_calibrated_on_training_images_in_whatever_order(shards):
    manifest = manifests.read(shards)

    def chosen(manifest, **changes):
        return manifest.keys[list(extraction.calibration_rows(manifest, insects.options(5, **changes)))].tolist()

    training, by_seed = set(manifest.keys[:11].tolist()), [chosen(manifest, seed=seed) for seed in range(9)]
    assert all(len(some) == 4 and set(some) <= training for some in by_seed)
    assert set().union(*by_seed) == training
    backwards = {name: getattr(manifest, name)[::-1] for name in ("keys", "counts", "paths")}
    assert chosen(dataclasses.replace(manifest, **backwards), seed=3) == by_seed[3]
    assert len(chosen(manifest, calibration_images=99)) == 11


@pytest.mark.slow
def test_int8_features_are_features_of_their_own(shards, extracted, tmp_path):
    extract(shards, tmp_path / "float32")
    for name, computed in (("first", 17), ("second", 0)):
        assert extract(shards, tmp_path / name, runtime="openvino", precision="int8").computed == computed
    assert contents.of(tmp_path / "first") == contents.of(tmp_path / "second")
    ours, others = (cache.load(folder, SPLITS, "logits") for folder in (tmp_path / "first", extracted))
    assert ours.source != others.source
    correlation = np.corrcoef(ours.values.ravel().astype(float), others.values.ravel().astype(float))[0, 1]
    assert 0.7 < correlation < 1  # four images of 32 px are few to calibrate on


def test_a_store_that_loses_everything_is_an_error_not_a_loop(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "run", lambda *arguments: iter([17]))
    with pytest.raises(UserError, match="Set DECANT_STORE to another folder"):
        extract(shards, tmp_path, engine="ray")


@pytest.mark.slow
@pytest.mark.parametrize("damage", [lambda c: c[:200] + b"?" + c[201:], lambda c: c[:-5], lambda c: c + b"123"])
def test_damaged_shards_are_rejected(shards, tmp_path, damage):
    shutil.copytree(shards, tmp_path / "damaged")
    path = tmp_path / "damaged" / "train-00002-of-00003.tfrecord"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="dvc repro -f tfrecord"):
        extract(tmp_path / "damaged", tmp_path / "out")


@pytest.mark.slow
def test_the_stage_runs_in_any_folder_in_silence(tmp_path, shards, extracted):
    params = changed_params(tmp_path, {"extract.input_size_px": insects.SIZE_PX, "extract.batch_size": 5})

    def stage(shards, out):
        command = f"{sys.executable} -m stages.bottleneck_extract --params {params} --backbone efficientnet_lite0"
        return processes.run(*command.split(), "--records", shards, "--out", tmp_path / out, check=False)

    done = stage(shards, "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"bottleneck-extract efficientnet_lite0: 17 images at 32 px, 17 computed; .*\n", done.stdout)
    assert list(contents.of(tmp_path / "out")) == list(contents.of(extracted))
    ours, theirs = (cache.load(folder, SPLITS, "bottleneck") for folder in (tmp_path / "out", extracted))
    np.testing.assert_allclose(ours.values, theirs.values, rtol=0.01, atol=0.01)  # its own threads, other last bits
    failed = stage(tmp_path, "none")
    assert failed.returncode == 1
    assert re.fullmatch(r"error: .*\n", failed.stderr)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("size_px", "expected"), [(32, 8), (96, 8), (128, 8), (129, 4), (160, 4), (224, 2), (299, 2)])
def test_batches_are_smaller_the_larger_the_images(size_px, expected):
    assert extraction.batch_size(insects.options(None), size_px) == expected
    assert extraction.batch_size(insects.options(64), size_px) == 64


def test_the_input_size_has_a_default_and_a_minimum():
    unset = section("extract", input_size_px=None, weights={"inception_v3": "w.h5"})
    assert extraction.input_size_px(inception_v3.BACKBONE, unset) == 299
    assert extraction.input_size_px(backbones.lookup("efficientnet_lite0").BACKBONE, unset) == 224
    small = insects.options(1, input_size_px=74)
    assert extraction.input_size_px(backbones.lookup("efficientnet_lite0").BACKBONE, small) == 74
    with pytest.raises(UserError, match=r"`extract\.input_size_px` must be at least 75 for inception_v3.*Received: 74"):
        extraction.input_size_px(inception_v3.BACKBONE, small)
