"""Extraction, end to end on small shards, against the model called directly."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import contents
import insects
import numpy as np
import pyarrow.parquet as pq
import pytest
import sharded

from stages.library.common import artifacts, store_location, tensorflow_runtime
from stages.library.common.console import UserError
from stages.library.extraction import extraction, extraction_code, feature_parts, feature_table, worker
from stages.library.extraction.engines import local
from stages.library.extraction.extraction import Extracted
from stages.library.extraction.feature_store import FeatureStore
from stages.library.features import cache
from stages.library.networks import weights
from stages.library.records import manifest as manifests
from stages.library.records import preprocessing, tfrecord
from stages.library.records.preprocessing import Preprocessing
from stages.library.records.tfrecord import SPLITS
from stages.plugins import backbones
from stages.plugins.backbones import efficientnet_lite0

COUNTS = {"train": (7, 0, 4), "validation": (1, 2, 0), "test": (0, 0, 3)}
ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Seventeen images in nine shards, some of them empty; JPEG and PNG, colour and grey, of several sizes."""
    folder = tmp_path_factory.mktemp("tfrecord")
    rng = np.random.default_rng(0)
    sharded.write(
        folder,
        {split: [[insects.record(rng) for _ in range(n)] for n in counts] for split, counts in COUNTS.items()},
    )
    artifacts.write_json(folder / "dataset.json", insects.DATASET)
    return folder


@pytest.fixture(scope="module")
def lite0():
    tensorflow_runtime.start()
    model, _, _ = weights.build_with_weights("efficientnet_lite0", insects.SIZE_PX, {})
    return model


def extract(params, shards, out):
    out.mkdir(exist_ok=True)
    return extraction.extract("efficientnet_lite0", params, shards, insects.DATASET, out)


@pytest.fixture(scope="module")
def extracted(shards, tmp_path_factory):
    """Batches of 5 cross the borders of shards and splits."""
    out = tmp_path_factory.mktemp("bottlenecks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DECANT_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert extract(insects.options(5), shards, out) == Extracted(images=17, computed=17, size_px=insects.SIZE_PX)
    return out


@pytest.mark.slow
def test_each_shard_has_its_file_with_its_rows_in_order(shards, extracted):
    assert sorted(contents.of(extracted)) == sorted(
        f"{split}-{index:05d}-of-00003.parquet" for split in SPLITS for index in range(3)
    )
    for split, counts in COUNTS.items():
        for path, count in zip(tfrecord.shard_paths(shards, split, 3), counts, strict=True):
            table = pq.read_table(extracted / f"{path.stem}.parquet")
            written = list(tfrecord.read_shard(path))
            assert len(table) == count
            assert table["key"].to_pylist() == [record.key for record in written]
            assert table["label"].to_pylist() == [record.label for record in written]


@pytest.mark.slow
def test_features_are_those_of_the_model(shards, extracted, lite0):
    for split in SPLITS:
        for kind in ("bottleneck", "logits"):
            cached = cache.load(extracted, [split], kind)
            expected = []
            for path in tfrecord.find_shards(shards, split):
                for record in tfrecord.read_shard(path):
                    image = preprocessing.fit(preprocessing.decode(record.encoded), Preprocessing(insects.SIZE_PX))
                    expected.append(lite0(image[None], training=False)[kind][0])
            assert cached.values.dtype == np.float16
            np.testing.assert_allclose(cached.values.astype(np.float32), np.stack(expected), rtol=1e-3, atol=1e-3)


def test_the_source_travels_with_the_features(extracted):
    source = cache.load(extracted, ["test"], "logits").source
    sha256 = efficientnet_lite0.BACKBONE.weights["pytorch"].sha256
    assert sha256 is not None
    content = extraction.covered(
        efficientnet_lite0.BACKBONE, sha256, Preprocessing(insects.SIZE_PX), insects.plan(5), "tensorflow"
    )
    identity = extraction.fingerprint(content)
    assert source == cache.Source(
        "efficientnet_lite0", insects.SIZE_PX, 1.0, "bilinear", False, sha256, identity, insects.CLASSES
    )


@pytest.mark.slow
def test_crop_and_flip_reach_the_features(shards, lite0, tmp_path):
    changes = {"central_crop": 0.5, "resize": "bicubic", "flip": True}
    extract(insects.options(5, **changes), shards, tmp_path)
    cached = cache.load(tmp_path, ["train"], "bottleneck")
    assert (cached.source.central_crop, cached.source.resize, cached.source.flip) == (0.5, "bicubic", True)
    expected = []
    for path in tfrecord.find_shards(shards, "train"):
        for record in tfrecord.read_shard(path):
            image = preprocessing.fit(
                preprocessing.decode(record.encoded), Preprocessing(insects.SIZE_PX, 0.5, "bicubic")
            )
            views = np.stack([image, np.asarray(image)[:, ::-1]])
            expected.append(np.mean(lite0(views, training=False)["bottleneck"], axis=0))
    np.testing.assert_allclose(cached.values.astype(np.float32), np.stack(expected), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 64])
def test_features_hardly_depend_on_the_batch_size(shards, extracted, tmp_path, batch_size):
    extract(insects.options(batch_size), shards, tmp_path)
    for kind in ("bottleneck", "logits"):
        ours, others = (cache.load(folder, SPLITS, kind) for folder in (tmp_path, extracted))
        np.testing.assert_array_equal(ours.keys, others.keys)
        spacing = np.spacing(np.maximum(np.abs(others.values), np.float16(1)))
        assert np.all(np.abs(ours.values - others.values) <= spacing)


def test_blocks_of_rows_do_not_follow_the_batches(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_table, "ROWS_PER_BLOCK", 3)
    extract(insects.options(5), shards, tmp_path)
    metadata = pq.ParquetFile(tmp_path / "train-00000-of-00003.parquet").metadata
    assert [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)] == [3, 3, 1]


@pytest.mark.slow
@pytest.mark.parametrize(("images", "size_bytes"), [(1, 1 << 24), (10, 1 << 24), (64, 1)])
def test_how_many_batches_are_prepared_at_once_changes_nothing(
    shards, extracted, tmp_path, monkeypatch, images, size_bytes
):
    monkeypatch.setattr(worker, "IMAGES_AT_ONCE", images)
    monkeypatch.setattr(worker, "BYTES_AT_ONCE", size_bytes)
    assert extract(insects.options(5), shards, tmp_path).computed == 17
    assert contents.of(tmp_path) == contents.of(extracted)


@pytest.mark.slow
def test_a_second_run_computes_nothing_and_gives_the_same_bytes(shards, extracted, tmp_path):
    assert extract(insects.options(5), shards, tmp_path / "first").computed == 17
    assert extract(insects.options(5), shards, tmp_path / "second").computed == 0
    shutil.rmtree(store_location.root())
    assert extract(insects.options(5), shards, tmp_path / "third").computed == 17
    for name in ("first", "second", "third"):
        assert contents.of(tmp_path / name) == contents.of(extracted)


@pytest.mark.slow
@pytest.mark.parametrize("rows_per_part", [1, 4, 1000])
def test_a_killed_run_goes_on_where_it_was_with_the_bytes_of_an_undisturbed_one(
    shards, extracted, tmp_path, monkeypatch, rows_per_part
):
    monkeypatch.setattr(feature_parts, "ROWS_PER_PART", rows_per_part)
    monkeypatch.setattr(worker, "IMAGES_AT_ONCE", 1)
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
            computed = extract(insects.options(5), shards, tmp_path / "out").computed
            break
        except KeyboardInterrupt:
            assert list((tmp_path / "out").iterdir()) == []
    assert computed < 17 or rows_per_part == 1000
    assert contents.of(tmp_path / "out") == contents.of(extracted)


@pytest.mark.slow
@pytest.mark.parametrize("place", [0.5, -1])  # within the features, and at the end, so that no key can be read
def test_a_damaged_part_is_computed_again(shards, extracted, tmp_path, monkeypatch, place):
    monkeypatch.setattr(feature_parts, "ROWS_PER_PART", 5)
    monkeypatch.setattr(worker, "IMAGES_AT_ONCE", 1)
    extract(insects.options(5), shards, tmp_path / "first")
    part = sorted(store_location.root().glob("*/*.parquet"))[1]
    damaged = bytearray(part.read_bytes())
    damaged[int(place * len(damaged)) if place > 0 else place] ^= 1
    part.write_bytes(damaged)
    assert 0 < extract(insects.options(5), shards, tmp_path / "second").computed < 17
    assert contents.of(tmp_path / "second") == contents.of(extracted)
    assert extract(insects.options(5), shards, tmp_path / "third").computed == 0


@pytest.mark.slow
def test_other_splits_and_other_classes_compute_nothing(shards, extracted, tmp_path):
    extract(insects.options(5), shards, tmp_path / "first")
    everything = [
        r for split in SPLITS for path in tfrecord.find_shards(shards, split) for r in tfrecord.read_shard(path)
    ]
    everything.sort(key=lambda record: record.key[::-1])
    unlabelled = [dataclasses.replace(record, label=0) for record in everything]
    shuffled = unlabelled[:9], unlabelled[9:12], unlabelled[12:]
    sharded.write(tmp_path / "shuffled", {split: [some] for split, some in zip(SPLITS, shuffled, strict=True)})
    assert extract(insects.options(5), tmp_path / "shuffled", tmp_path / "second").computed == 0
    ours, others = (cache.load(folder, SPLITS, "joined") for folder in (tmp_path / "second", extracted))
    order = [others.keys.tolist().index(key) for key in ours.keys]
    np.testing.assert_array_equal(ours.values, others.values[order])
    assert set(ours.labels) == {0}


def test_int8_is_calibrated_on_training_images_in_whatever_order(shards):
    manifest = manifests.read(shards)
    training = set(manifest.keys[:11].tolist())
    chosen = {
        seed: manifest.keys[list(extraction.calibration_rows(manifest, insects.options(5, seed=seed)))].tolist()
        for seed in range(9)
    }
    assert all(len(some) == 4 and set(some) <= training for some in chosen.values())
    assert set().union(*chosen.values()) == training
    turned = dataclasses.replace(
        manifest, keys=manifest.keys[::-1], counts=manifest.counts[::-1], paths=manifest.paths[::-1]
    )
    rows = extraction.calibration_rows(turned, insects.options(5, seed=3))
    assert turned.keys[list(rows)].tolist() == chosen[3]
    assert len(extraction.calibration_rows(manifest, insects.options(5, calibration_images=99))) == 11


@pytest.mark.slow
def test_int8_features_are_features_of_their_own(shards, extracted, tmp_path):
    params = insects.options(5, runtime="openvino", precision="int8")
    assert extract(params, shards, tmp_path / "first").computed == 17
    assert extract(params, shards, tmp_path / "second").computed == 0
    assert contents.of(tmp_path / "first") == contents.of(tmp_path / "second")
    ours, others = (cache.load(folder, SPLITS, "logits") for folder in (tmp_path / "first", extracted))
    assert ours.source.fingerprint != others.source.fingerprint
    correlation = np.corrcoef(ours.values.ravel().astype(float), others.values.ravel().astype(float))[0, 1]
    assert 0.7 < correlation < 1  # four images of 32 px are few to calibrate on


@pytest.mark.slow
def test_what_was_computed_here_is_not_read_again(shards, tmp_path, monkeypatch):
    def reject(self, parts):
        raise AssertionError(parts)

    monkeypatch.setattr(FeatureStore, "read", reject)
    assert extract(insects.options(5), shards, tmp_path).computed


@pytest.mark.slow
def test_a_store_that_loses_everything_is_an_error_not_a_loop(shards, tmp_path, monkeypatch):
    """With an engine whose features come to this process by the store alone."""
    run = local.run

    def silent(job, batches, store, dataset, resources, take):
        return run(job, batches, store, dataset, resources, lambda rows: None)

    monkeypatch.setattr(local, "run", silent)
    monkeypatch.setattr(FeatureStore, "put", lambda self, rows, dataset: None)
    with pytest.raises(UserError, match="Set DECANT_STORE to another folder"):
        extract(insects.options(5), shards, tmp_path)


def damaged(shards, folder, change):
    shutil.copytree(shards, folder)
    path = folder / "train-00002-of-00003.tfrecord"
    path.write_bytes(change(bytearray(path.read_bytes())))
    return folder


@pytest.mark.slow
def test_damaged_shards_are_rejected(shards, tmp_path):
    def flipped(content):
        content[200] ^= 1
        return content

    (tmp_path / "out").mkdir()
    for name, change in (("flipped", flipped), ("cut", lambda content: content[:-5]), ("more", lambda c: c + b"123")):
        folder = damaged(shards, tmp_path / name, change)
        with pytest.raises(UserError, match="dvc repro -f tfrecord"):
            extract(insects.options(5), folder, tmp_path / "out")


def stage(tmp_path, shards, out):
    command = [sys.executable, "-m", "stages.bottleneck_extract", "--params", str(tmp_path / "params.yaml")]
    command += ["--backbone", "efficientnet_lite0", "--records", str(shards), "--out", str(out)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_stage_runs_in_any_folder_in_silence(tmp_path, shards, extracted):
    text = (ROOT / "params.yaml").read_text()
    changed = text.replace("input_size_px: 128", "input_size_px: 32").replace("batch_size: null ", "batch_size: 5 ", 1)
    (tmp_path / "params.yaml").write_text(changed)
    done = stage(tmp_path, shards, tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("bottleneck-extract efficientnet_lite0: 17 images at 32 px, 17 computed; ")
    assert done.stdout.count("\n") == 1
    assert list(contents.of(tmp_path / "out")) == list(contents.of(extracted))
    ours, theirs = (cache.load(folder, SPLITS, "bottleneck") for folder in (tmp_path / "out", extracted))
    np.testing.assert_allclose(ours.values, theirs.values, rtol=0.01, atol=0.01)  # its own threads, other last bits
    failed = stage(tmp_path, tmp_path, tmp_path / "none")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: ")
    assert failed.stderr.count("\n") == 1
    assert not (tmp_path / "none").exists()


BACKBONE = '''"""A tiny network."""

from stages.library.networks.contract import Backbone, Weights

BACKBONE = Backbone("tiny", "", {"only": Weights("", "")}, 32, 3, 8, {"all": "bottleneck"}, 0.5, 32, 2)


def build(input_size_px):
    """Returns the network."""
    import keras

    pixels = keras.Input((input_size_px, input_size_px, 3))
    bottleneck = keras.layers.GlobalAveragePooling2D(name="bottleneck")(pixels)
    logits = keras.layers.Dense(2, kernel_initializer="ones")(bottleneck)
    return keras.Model(pixels, {"bottleneck": bottleneck, "logits": logits})


def load_weights(model, path):
    """There is nothing to load."""
'''


def test_other_code_and_another_release_compute_features_anew_and_a_comment_does_not(shards, tmp_path, monkeypatch):
    (tmp_path / "weights").touch()
    monkeypatch.setattr(weights, "locate", lambda backbone, choice: tmp_path / "weights")
    monkeypatch.setattr(backbones, "__path__", [*backbones.__path__, str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delattr(backbones, "tiny", raising=False)

    def edited(code, name):
        (tmp_path / "tiny.py").write_text(code, encoding="utf-8")
        monkeypatch.delitem(sys.modules, "stages.plugins.backbones.tiny", raising=False)
        out = tmp_path / name
        out.mkdir()
        computed = extraction.extract("tiny", insects.options(5), shards, insects.DATASET, out).computed
        return computed, cache.load(out, SPLITS, "logits").values

    computed, first = edited(BACKBONE, "first")
    assert computed == 17
    for name, same in (
        ("same", BACKBONE),
        ("comment", f"# edited\n{BACKBONE}"),
        ("doc", BACKBONE.replace(" tiny n", " n")),
    ):
        computed, values = edited(same, name)
        assert computed == 0
        np.testing.assert_array_equal(values, first)
    computed, others = edited(BACKBONE.replace('"ones"', '"zeros"'), "edited")
    assert computed == 17
    assert (others == 0).all()
    assert first.all()
    monkeypatch.setattr(extraction_code, "version", lambda package: "another")
    assert edited(BACKBONE, "release")[0] == 17
