"""Extraction, end to end on small shards, against the model called directly."""

import dataclasses
import hashlib
import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stages.library import (
    artifacts,
    bottlenecks,
    extraction,
    params,
    preprocessing,
    records,
    tensorflow_runtime,
    weights,
)
from stages.library.backbones import efficientnet_lite0, inception_v3
from stages.library.console import UserError
from stages.library.extraction import Params
from stages.library.preprocessing import Preprocessing
from stages.library.records import SPLITS, Record

SIZE_PX = 32
CLASSES = ("ant", "bee", "cat")
COUNTS = {"train": (7, 0, 4), "validation": (1, 2, 0), "test": (0, 0, 3)}
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Seventeen pictures in nine shards, some of them empty; JPEG and PNG, colour and grey, of several sizes."""
    folder = tmp_path_factory.mktemp("tfrecord")
    rng = np.random.default_rng(0)

    def record(label):
        shape = (int(rng.integers(20, 50)), int(rng.integers(20, 50))) + ((3,) if label else ())
        small = Image.fromarray(rng.integers(0, 256, (4, 4, *shape[2:]), dtype=np.uint8))
        file, kind = io.BytesIO(), "jpeg" if label == 1 else "png"
        small.resize((shape[1], shape[0])).save(file, kind)
        encoded = file.getvalue()
        key = hashlib.sha256(encoded).hexdigest()
        return Record(key, encoded, kind, shape[0], shape[1], label, CLASSES[label], f"{key}.{kind}")

    for split, counts in COUNTS.items():
        for path, count in zip(records.shard_paths(folder, split, 3), counts, strict=True):
            records.write_shard(path, [record(int(rng.integers(3))) for _ in range(count)])
    artifacts.write_json(folder / "dataset.json", {"classes": CLASSES})
    return folder


@pytest.fixture(scope="module")
def lite0():
    tensorflow_runtime.start()
    model, _, _ = weights.build_with_weights("efficientnet_lite0", SIZE_PX, {})
    return model


def options(batch_size, **changes):
    """Section `extract` with the defaults that most tests have in common."""
    default = Params(
        input_size_px=SIZE_PX, central_crop=1.0, resize="bilinear", flip=False, batch_size=batch_size, weights={}
    )
    return dataclasses.replace(default, **changes)


@pytest.fixture(scope="module")
def extracted(shards, tmp_path_factory):
    """Batches of 5: 17 pictures leave an incomplete one, and batches cross the borders of shards and splits."""
    out = tmp_path_factory.mktemp("bottlenecks")
    assert extraction.extract("efficientnet_lite0", options(5), shards, CLASSES, out) == (17, SIZE_PX)
    return out


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_each_shard_has_its_file_with_its_rows_in_order(shards, extracted):
    assert sorted(content(extracted)) == sorted(
        f"{split}-{index:05d}-of-00003.parquet" for split in SPLITS for index in range(3)
    )
    for split, counts in COUNTS.items():
        for path, count in zip(records.shard_paths(shards, split, 3), counts, strict=True):
            table = pq.read_table(extracted / f"{path.stem}.parquet")
            written = list(records.read_shard(path))
            assert len(table) == count
            assert table["key"].to_pylist() == [record.key for record in written]
            assert table["label"].to_pylist() == [record.label for record in written]


def test_features_are_those_of_the_model(shards, extracted, lite0):
    for split in SPLITS:
        for kind in ("bottleneck", "logits"):
            cached = bottlenecks.load(extracted, [split], kind)
            expected = []
            for path in records.find_shards(shards, split):
                for record in records.read_shard(path):
                    image = preprocessing.fit(preprocessing.decode(record.encoded), Preprocessing(SIZE_PX))
                    expected.append(lite0(image[None], training=False)[kind][0])
            assert cached.values.dtype == np.float16
            np.testing.assert_allclose(cached.values.astype(np.float32), np.stack(expected), rtol=1e-3, atol=1e-3)


def test_the_source_travels_with_the_features(extracted):
    source = bottlenecks.load(extracted, ["test"], "logits").source
    sha256 = efficientnet_lite0.BACKBONE.weights["pytorch"].sha256
    assert sha256 is not None
    identity = extraction.fingerprint(efficientnet_lite0.BACKBONE, sha256, Preprocessing(SIZE_PX), False)
    assert source == bottlenecks.Source("efficientnet_lite0", SIZE_PX, 1.0, "bilinear", False, identity, CLASSES)


def test_crop_and_flip_reach_the_features(shards, lite0, tmp_path):
    changes = {"central_crop": 0.5, "resize": "bicubic", "flip": True}
    extraction.extract("efficientnet_lite0", options(5, **changes), shards, CLASSES, tmp_path)
    cached = bottlenecks.load(tmp_path, ["train"], "bottleneck")
    assert (cached.source.central_crop, cached.source.resize, cached.source.flip) == (0.5, "bicubic", True)
    expected = []
    for path in records.find_shards(shards, "train"):
        for record in records.read_shard(path):
            image = preprocessing.fit(preprocessing.decode(record.encoded), Preprocessing(SIZE_PX, 0.5, "bicubic"))
            views = np.stack([image, np.asarray(image)[:, ::-1]])
            expected.append(np.mean(lite0(views, training=False)["bottleneck"], axis=0))
    np.testing.assert_allclose(cached.values.astype(np.float32), np.stack(expected), rtol=1e-3, atol=1e-3)


def test_a_rerun_gives_the_same_bytes(shards, extracted, tmp_path):
    extraction.extract("efficientnet_lite0", options(5), shards, CLASSES, tmp_path)
    assert content(tmp_path) == content(extracted)


@pytest.mark.parametrize("batch_size", [1, 64])
def test_features_do_not_depend_on_the_batch(shards, extracted, tmp_path, batch_size):
    extraction.extract("efficientnet_lite0", options(batch_size), shards, CLASSES, tmp_path)
    for kind in ("bottleneck", "logits"):
        ours, others = (bottlenecks.load(folder, SPLITS, kind) for folder in (tmp_path, extracted))
        np.testing.assert_array_equal(ours.keys, others.keys)
        spacing = np.spacing(np.maximum(np.abs(others.values), np.float16(1)))
        assert np.all(np.abs(ours.values - others.values) <= spacing)


def test_a_row_does_not_depend_on_its_place_or_on_the_padding(lite0):
    images = np.random.default_rng(1).uniform(0, 255, (6, SIZE_PX, SIZE_PX, 3)).astype(np.float32)
    forward = extraction.freeze(lite0, SIZE_PX, 6)
    whole, turned, alone = forward(images), forward(images[::-1]), forward(images[:1])
    for index in range(2):
        assert turned[index].shape == whole[index].shape
        np.testing.assert_array_equal(turned[index][::-1], whole[index])
        np.testing.assert_array_equal(alone[index], whole[index][:1])


def test_blocks_of_rows_do_not_follow_the_batches(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "ROWS_PER_BLOCK", 3)
    extraction.extract("efficientnet_lite0", options(5), shards, CLASSES, tmp_path)
    metadata = pq.ParquetFile(tmp_path / "train-00000-of-00003.parquet").metadata
    assert [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)] == [3, 3, 1]


def damaged(shards, folder, change):
    shutil.copytree(shards, folder)
    path = folder / "train-00002-of-00003.tfrecord"
    path.write_bytes(change(bytearray(path.read_bytes())))
    return folder


def test_damaged_shards_are_refused(shards, tmp_path):
    def flipped(content):
        content[200] ^= 1
        return content

    (tmp_path / "out").mkdir()
    for name, change in (("flipped", flipped), ("cut", lambda content: content[:-5]), ("more", lambda c: c + b"123")):
        folder = damaged(shards, tmp_path / name, change)
        with pytest.raises(UserError, match="dvc repro -f tfrecord"):
            extraction.extract("efficientnet_lite0", options(5), folder, CLASSES, tmp_path / "out")


def test_the_fingerprint_changes_with_all_that_it_covers_and_with_nothing_else(monkeypatch):
    backbone = efficientnet_lite0.BACKBONE
    plain = Preprocessing(96)

    def identity(backbone=backbone, weights="a" * 64, preparation=plain, flip=False):
        return extraction.fingerprint(backbone, weights, preparation, flip)

    reference = identity()
    assert len(reference) == 64
    assert identity(dataclasses.replace(backbone, top1=0.1)) == reference
    others = {
        identity(inception_v3.BACKBONE),
        identity(weights="b" * 64),
        identity(preparation=Preprocessing(97)),
        identity(preparation=Preprocessing(96, central_crop=0.875)),
        identity(preparation=Preprocessing(96, resize="bicubic")),
        identity(flip=True),
    }
    for module, name in ((preprocessing, "DESCRIPTION"), (extraction, "TAPPED"), (extraction, "DTYPE")):
        with monkeypatch.context() as changed:
            changed.setattr(module, name, "other")
            others.add(identity())
    assert len(others | {reference}) == 10
    assert identity() == reference


def test_the_input_size_has_a_default_and_a_minimum():
    unset = options(1, input_size_px=None)
    assert extraction.input_size_px(inception_v3.BACKBONE, unset) == 299
    assert extraction.input_size_px(efficientnet_lite0.BACKBONE, unset) == 224
    small = options(1, input_size_px=74)
    assert extraction.input_size_px(efficientnet_lite0.BACKBONE, small) == 74
    with pytest.raises(UserError, match=r"`extract\.input_size_px` must be at least 75 for inception_v3.*Received: 74"):
        extraction.input_size_px(inception_v3.BACKBONE, small)


GOOD = {"input_size_px": 96, "central_crop": 1.0, "resize": "bilinear", "flip": False, "batch_size": 64, "weights": {}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_size_px": 31}, r"`extract\.input_size_px`.*32.*Received: 31"),
        ({"input_size_px": 1025}, r"`extract\.input_size_px`.*1024.*Received: 1025"),
        ({"input_size_px": 96.5}, r"`extract\.input_size_px`"),
        ({"central_crop": 0}, r"`extract\.central_crop`.*greater than 0.*Received: 0"),
        ({"central_crop": 1.1}, r"`extract\.central_crop`.*Received: 1.1"),
        ({"resize": "area"}, r"`extract\.resize`.*bilinear_tf1.*Received: 'area'"),
        ({"flip": "yes"}, r"`extract\.flip`"),
        ({"batch_size": 0}, r"`extract\.batch_size`.*Received: 0"),
        ({"batch_size": 4097}, r"`extract\.batch_size`.*4096.*Received: 4097"),
        (
            {"weights": {"vgg": "x"}},
            r"`extract\.weights`: keys must be among .*efficientnet_lite0, .*inception_v3.*vgg",
        ),
        ({"weights": {"inception_v3": 3}}, r"`extract\.weights\.inception_v3`"),
        ({"color": 1}, r"`extract\.color` is unknown"),
    ],
)
def test_parameters_are_validated(change, message):
    with pytest.raises(params.ParamsError, match=message):
        params.parse("extract", GOOD | change, Params)


def test_good_parameters_pass():
    parsed = params.parse("extract", GOOD | {"input_size_px": None, "weights": {"inception_v3": "w.h5"}}, Params)
    assert parsed == options(64, input_size_px=None, weights={"inception_v3": "w.h5"})


def stage(tmp_path, shards, out):
    command = [sys.executable, "-m", "stages.bottleneck_extract", "--params", str(tmp_path / "params.yaml")]
    command += ["--backbone", "efficientnet_lite0", "--records", str(shards), "--out", str(out)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_stage_runs_in_any_folder_in_silence(tmp_path, shards, extracted):
    text = (ROOT / "params.yaml").read_text()
    changed = text.replace("input_size_px: 128", "input_size_px: 32").replace("batch_size: 64  ", "batch_size: 5  ")
    (tmp_path / "params.yaml").write_text(changed)
    done = stage(tmp_path, shards, tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("bottleneck-extract efficientnet_lite0: 17 images at 32 px; ")
    assert done.stdout.count("\n") == 1
    assert content(tmp_path / "out") == content(extracted)
    failed = stage(tmp_path, tmp_path, tmp_path / "none")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: ")
    assert failed.stderr.count("\n") == 1
    assert not (tmp_path / "none").exists()
