"""TF-slim's checkpoints in all their formats, written by TensorFlow itself, and files that are none."""

import gzip
import sys
import tarfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from stages.library.common.console import UserError
from stages.library.networks import slim_checkpoint
from tests import processes
from tests.layouts import special, tar_bytes

FIRST, UP, LOGITS = "Net/Conv2d_1a_3x3", "Net/Repeat/block_1/Conv2d_1x1", "Net/Logits/Logits"
RNG = np.random.default_rng(0)
SHAPES = {
    f"{FIRST}/weights": (3, 3, 2, 4),
    f"{FIRST}/BatchNorm/beta": (4,),
    f"{FIRST}/BatchNorm/moving_mean": (4,),
    f"{FIRST}/BatchNorm/moving_variance": (4,),
    f"{UP}/weights": (1, 1, 4, 5),
    f"{UP}/biases": (5,),
    f"{LOGITS}/weights": (5, 8),
    f"{LOGITS}/biases": (8,),
}
VARIABLES = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
TRAINING_ONLY = ["global_step", "Net/AuxLogits/Conv2d_1b_1x1/weights", f"{FIRST}/BatchNorm/beta/Adam"]
TRAINING_ONLY += [f"{FIRST}/weights/RMSProp_1", f"{FIRST}/weights/ExponentialMovingAverage"]
SCOPES = {"first_conv": FIRST, "first_bn": FIRST, "up": UP, "logits": LOGITS}


def write_first_format(path, variables=VARIABLES):
    tf.raw_ops.Save(filename=str(path), tensor_names=list(variables), data=list(variables.values()))
    return path


def write_second_format(path, variables):
    """Writes `path`.index and `path`.data-00000-of-00001."""
    names, slices = list(variables), [""] * len(variables)
    tf.raw_ops.SaveV2(prefix=str(path), tensor_names=names, shape_and_slices=slices, tensors=[*variables.values()])


def archived(path, *files, extra=()):
    path.write_bytes(gzip.compress(tar_bytes(files, extra), 1))
    return path


@pytest.mark.parametrize("cache", ["cache", "cache [1]*"])
def test_what_a_killed_reading_left_is_removed_by_the_next(tmp_path, monkeypatch, cache):
    """In the cache folder; where its path is a pattern to TensorFlow, the checkpoint is read all the same."""
    monkeypatch.setenv("DECANT_CACHE", str(tmp_path / cache))
    path, temporary = write_first_format(tmp_path / "net.ckpt"), tmp_path / "temporary"
    code = "import os, sys; from pathlib import Path; from stages.library.networks import slim_checkpoint as s;"
    code += "s._gathered(Path(sys.argv[1])).__enter__(); os._exit(9)"
    temporary.mkdir()
    assert processes.run(sys.executable, "-c", code, path, check=False, TMPDIR=temporary).returncode == 9
    assert slim_checkpoint.read(path).keys() == VARIABLES.keys()
    if cache == "cache":
        assert [*temporary.iterdir(), *(tmp_path / cache / "scratch").iterdir()] == []


def first_format_in_archive(folder, variables):
    content = write_first_format(folder / "written", variables).read_bytes()
    return archived(folder / "net.tar.gz", ("README", b"read me"), ("./net_2016.ckpt", content))


def second_format_in_archive(folder, variables):
    write_second_format(folder / "net.ckpt", variables)
    files = [(f"net/{path.name}", path.read_bytes()) for path in folder.glob("net.ckpt.*")]
    return archived(folder / "net.tgz", ("net/checkpoint", b"x"), ("net/net.ckpt.meta", b"x"), *files)


def first_format_among_wildcards(folder, variables):
    (folder / "a[1]*").mkdir()
    return write_first_format(folder / "written", variables).rename(folder / "a[1]*" / "net?.ckpt-400")


def second_format(folder, variables):
    (folder / "b[1]").mkdir()
    write_second_format(folder / "net", variables)
    for file in folder.glob("net.*"):
        file.rename(folder / "b[1]" / file.name)
    write_second_format(folder / "b[1]" / "net2", {"other": np.zeros(1)})
    return folder / "b[1]" / "net.index"


@pytest.fixture
def model():
    pixels = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="first_conv")(pixels)
    x = keras.layers.BatchNormalization(scale=False, name="first_bn")(x)
    x = keras.layers.Conv2D(5, 1, name="up")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, keras.layers.Dense(7, name="logits")(x), name="small")


WRITERS = first_format_in_archive, first_format_among_wildcards, second_format


@pytest.mark.parametrize("classifier", [(5, 8), (1, 1, 5, 8)])  # v3's is a 1x1 convolution
@pytest.mark.parametrize("write", [*WRITERS, second_format_in_archive])
def test_every_format_loads_and_the_background_is_dropped(tmp_path, model, write, classifier):
    kernel = VARIABLES[f"{LOGITS}/weights"]
    extra = dict.fromkeys(TRAINING_ONLY, np.full((3, 1), np.nan, np.float32))
    path = write(tmp_path, VARIABLES | extra | {f"{LOGITS}/weights": kernel.reshape(classifier)})
    slim_checkpoint.load(model, path, SCOPES)
    background_dropped = {f"{LOGITS}/{name}": VARIABLES[f"{LOGITS}/{name}"][..., 1:] for name in ("weights", "biases")}
    expected = (VARIABLES | background_dropped).values()
    loaded = [value for layer in SCOPES for value in model.get_layer(layer).get_weights()]
    for name, ours, theirs in zip(SHAPES, loaded, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{FIRST}/BatchNorm/beta": None}, r"lacks weights of small: Net/Conv2d_1a_3x3/BatchNorm/beta$"),
        (dict.fromkeys(list(SHAPES)[:7]), r"lacks weights of small: .* and 2 more$"),
        ({"Net/extra/weights": np.zeros(3)}, r"has weights that small lacks: Net/extra/weights$"),
        ({"Net/AuxLogitsToo/weights": np.zeros(3)}, r"has weights that small lacks: Net/AuxLogitsToo/weights$"),
        ({f"{FIRST}/weights": np.zeros((1, 3, 2, 4))}, r"3x3/weights .* \(3, 3, 2, 4\) .*: \(1, 3, 2, 4\)$"),
        ({f"{LOGITS}/biases": np.zeros(7)}, r"Logits/biases .* shape \(7,\) in Keras\. Received: \(6,\)$"),
    ],
)
def test_other_names_and_shapes_are_rejected(tmp_path, model, changes, message):
    variables = {name: value for name, value in (VARIABLES | changes).items() if value is not None}
    path = write_first_format(tmp_path / "net.ckpt", variables)
    with pytest.raises(UserError, match=message) as error:
        slim_checkpoint.load(model, path, SCOPES)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("name", ["garbage.ckpt", "garbage.tar.gz", "garbage.index", "empty.ckpt", "absent.ckpt", "."])
def test_what_is_no_checkpoint_is_rejected(tmp_path, name):
    if name[0] in "eg":
        (tmp_path / name).write_bytes(b"no checkpoint at all" * 99 * (name[0] == "g"))
    with pytest.raises(UserError, match=r"must be a TF-slim checkpoint \(\.tar\.gz, \.ckpt or \.index\): \S"):
        slim_checkpoint.read(tmp_path / name)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("write", WRITERS)
def test_truncated_files_are_rejected(tmp_path, write, keep):
    path = write(tmp_path, VARIABLES)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(UserError, match="must "):
        slim_checkpoint.read(path)


def test_altered_and_missing_values_are_noticed(tmp_path):
    path = second_format(tmp_path, VARIABLES)
    data = path.with_name("net.data-00000-of-00001")
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(UserError, match=r"[Cc]hecksum"):
        slim_checkpoint.read(path)
    data.unlink()
    with pytest.raises(UserError, match=r"must be a TF-slim checkpoint"):
        slim_checkpoint.read(path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["net.ckpt", "../net.ckpt"], r"holds '\.\./net\.ckpt', a path that leaves"),
        (["net.ckpt", "/net.ckpt"], r"holds '/net\.ckpt', a path that leaves"),
        (["net.ckpt", "a/../../x"], r"holds 'a/\.\./\.\./x', a path that leaves"),
        (["README", "net.ckpt.meta"], r"must hold one checkpoint .* Received: README, net\.ckpt\.meta$"),
        (["a.ckpt", "b.ckpt"], r"must hold one checkpoint .* Received: a\.ckpt, b\.ckpt$"),
        ([], r"must hold one checkpoint .* Received: no files$"),
    ],
)
def test_an_archive_must_hold_one_checkpoint_and_no_path_that_leaves_it(tmp_path, names, message):
    content = write_first_format(tmp_path / "net.ckpt").read_bytes()
    link = special("net.ckpt", tarfile.SYMTYPE, "/etc/passwd")
    archived(tmp_path / "x.tar", *((name, content) for name in names), extra=[] if names else [link])
    with pytest.raises(UserError, match=rf"x\.tar {message}"):
        slim_checkpoint.read(tmp_path / "x.tar")
