"""TF-slim's checkpoints in all their formats, written by TensorFlow itself, and files that are none."""

import io
import os
import subprocess
import sys
import tarfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

from stages.library.common.console import UserError
from stages.library.networks import slim_checkpoint

RNG = np.random.default_rng(0)
SHAPES = {
    "Net/Conv2d_1a_3x3/weights": (3, 3, 2, 4),
    "Net/Conv2d_1a_3x3/BatchNorm/beta": (4,),
    "Net/Conv2d_1a_3x3/BatchNorm/moving_mean": (4,),
    "Net/Conv2d_1a_3x3/BatchNorm/moving_variance": (4,),
    "Net/Repeat/block_1/Conv2d_1x1/weights": (1, 1, 4, 5),
    "Net/Repeat/block_1/Conv2d_1x1/biases": (5,),
    "Net/Logits/Logits/weights": (5, 8),
    "Net/Logits/Logits/biases": (8,),
}
VARIABLES = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
TRAINING_ONLY = (
    "global_step",
    "Net/AuxLogits/Conv2d_1b_1x1/weights",
    "Net/Conv2d_1a_3x3/weights/RMSProp_1",
    "Net/Conv2d_1a_3x3/weights/ExponentialMovingAverage",
    "Net/Conv2d_1a_3x3/BatchNorm/beta/Adam",
)
SCOPES = {
    "first_conv": "Net/Conv2d_1a_3x3",
    "first_bn": "Net/Conv2d_1a_3x3",
    "up": "Net/Repeat/block_1/Conv2d_1x1",
    "logits": "Net/Logits/Logits",
}


def write_first_format(path, variables):
    tf.raw_ops.Save(filename=str(path), tensor_names=list(variables), data=list(variables.values()))
    return path


def write_second_format(path, variables):
    """Writes `path`.index and `path`.data-00000-of-00001; returns the first."""
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=[*variables.values()],
    )
    return path.with_name(f"{path.name}.index")


def archived(path, files):
    """Packs (name in the archive, file or bytes)."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in files:
            content = content if isinstance(content, bytes) else content.read_bytes()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("cache", ["cache", "cache [1]*"])
def test_what_a_killed_reading_left_is_removed_by_the_next(tmp_path, monkeypatch, cache):
    """In the cache folder; where its path is a pattern to TensorFlow, the checkpoint is read all the same."""
    monkeypatch.setenv("DECANT_CACHE", str(tmp_path / cache))
    path = write_first_format(tmp_path / "net.ckpt", VARIABLES)
    code = "import os, sys; from pathlib import Path; from stages.library.networks import slim_checkpoint as s;"
    code += "s._gathered(Path(sys.argv[1])).__enter__(); os._exit(9)"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary)}
    assert subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, env=environment).returncode == 9
    read = slim_checkpoint.read(path)
    assert read.keys() == VARIABLES.keys()
    if cache == "cache":
        assert [*temporary.iterdir(), *(tmp_path / cache / "scratch").iterdir()] == []


@pytest.fixture
def first_format(tmp_path):
    return write_first_format(tmp_path / "net.ckpt", VARIABLES)


def first_format_in_archive(folder, variables):
    file = write_first_format(folder / "written", variables)
    return archived(folder / "net.tar.gz", [("README", b"read me"), ("./net_2016.ckpt", file)])


def second_format_in_archive(folder, variables):
    write_second_format(folder / "net.ckpt", variables)
    names = ("net.ckpt.index", "net.ckpt.data-00000-of-00001")
    extra = [("net/checkpoint", b"x"), ("net/net.ckpt.meta", b"x")]
    return archived(folder / "net.tgz", [*extra, *((f"net/{name}", folder / name) for name in names)])


def first_format_among_wildcards(folder, variables):
    (folder / "a[1]*").mkdir()
    return write_first_format(folder / "written", variables).rename(folder / "a[1]*" / "net?.ckpt-400")


def second_format(folder, variables):
    (folder / "b[1]").mkdir()
    for file in write_second_format(folder / "net", variables).parent.glob("net.*"):
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


@pytest.mark.parametrize("write", [*WRITERS, second_format_in_archive])
def test_every_format_loads_and_the_background_is_dropped(tmp_path, model, write):
    path = write(tmp_path, VARIABLES | {name: np.full((3, 1), np.nan, np.float32) for name in TRAINING_ONLY})
    slim_checkpoint.load(model, path, SCOPES)
    for layer, variables in {
        "first_conv": ["Net/Conv2d_1a_3x3/weights"],
        "first_bn": [f"Net/Conv2d_1a_3x3/BatchNorm/{name}" for name in ("beta", "moving_mean", "moving_variance")],
        "up": ["Net/Repeat/block_1/Conv2d_1x1/weights", "Net/Repeat/block_1/Conv2d_1x1/biases"],
    }.items():
        for ours, name in zip(model.get_layer(layer).get_weights(), variables, strict=True):
            np.testing.assert_array_equal(ours, VARIABLES[name], err_msg=name)
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_array_equal(kernel, VARIABLES["Net/Logits/Logits/weights"][:, 1:])
    np.testing.assert_array_equal(bias, VARIABLES["Net/Logits/Logits/biases"][1:])


def test_a_classifier_may_be_a_1x1_convolution(tmp_path, model):
    kernel = VARIABLES["Net/Logits/Logits/weights"]
    path = write_first_format(tmp_path / "x.ckpt", VARIABLES | {"Net/Logits/Logits/weights": kernel[None, None]})
    slim_checkpoint.load(model, path, SCOPES)
    np.testing.assert_array_equal(model.get_layer("logits").get_weights()[0], kernel[:, 1:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Net/Conv2d_1a_3x3/BatchNorm/beta": None}, r"lacks weights of small: Net/Conv2d_1a_3x3/BatchNorm/beta$"),
        (dict.fromkeys(list(SHAPES)[:7]), "lacks weights of small: .* and 2 more$"),
        ({"Net/extra/weights": np.zeros(3)}, "has weights that small lacks: Net/extra/weights$"),
        ({"Net/AuxLogitsToo/weights": np.zeros(3)}, "has weights that small lacks: Net/AuxLogitsToo/weights$"),
        ({"Net/Conv2d_1a_3x3/weights": np.zeros((1, 3, 2, 4))}, r"3x3/weights .* \(3, 3, 2, 4\) .*: \(1, 3, 2, 4\)$"),
        ({"Net/Logits/Logits/biases": np.zeros(7)}, r"Logits/biases .* shape \(7,\) in Keras\. Received: \(6,\)$"),
    ],
)
def test_other_names_and_shapes_are_rejected(tmp_path, model, changes, message):
    variables = {name: value for name, value in (VARIABLES | changes).items() if value is not None}
    path = write_first_format(tmp_path / "net.ckpt", variables)
    with pytest.raises(UserError, match=f"^{path} {message}" if message.startswith(("lacks", "has")) else message):
        slim_checkpoint.load(model, path, SCOPES)


@pytest.mark.parametrize("name", ["garbage.ckpt", "garbage.tar.gz", "garbage.index", "empty.ckpt", "absent.ckpt", "."])
def test_what_is_no_checkpoint_is_rejected(tmp_path, name):
    for kind, content in (("garbage", b"no checkpoint at all" * 99), ("empty", b"")):
        if name.startswith(kind):
            (tmp_path / name).write_bytes(content)
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


@pytest.mark.parametrize("name", ["../net.ckpt", "/net.ckpt", "a/../../net.ckpt"])
def test_paths_that_leave_the_archive_are_rejected(tmp_path, first_format, name):
    path = archived(tmp_path / "evil.tar.gz", [("net.ckpt", first_format), (name, first_format)])
    with pytest.raises(UserError, match=rf"evil\.tar\.gz holds '{name}', a path that leaves the archive"):
        slim_checkpoint.read(path)


def test_an_archive_must_hold_one_checkpoint(tmp_path, first_format):
    archived(tmp_path / "none.tar.gz", [("README", b"x"), ("net.ckpt.meta", b"x")])
    archived(tmp_path / "two.tar.gz", [("a.ckpt", first_format), ("b.ckpt", first_format)])
    with tarfile.open(tmp_path / "link.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("net.ckpt")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    received = {"none": r"README, net\.ckpt\.meta", "two": r"a\.ckpt, b\.ckpt", "link": "no files"}
    for name, found in received.items():
        with pytest.raises(UserError, match=rf"must hold one checkpoint .* Received: {found}$"):
            slim_checkpoint.read(tmp_path / f"{name}.tar.gz")
