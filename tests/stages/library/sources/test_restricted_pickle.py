"""Pickles of numbers are read as Python 2 and 3 wrote them; any other is rejected without running anything."""

import contextlib
import os
import pickle

import numpy as np
import pytest
from numpy._core.multiarray import _reconstruct

from stages.library.common.console import UserError
from stages.library.networks import torch_weights
from stages.library.sources.restricted_pickle import load
from tests import memory
from tests.layouts import Calls, python2_pickle


@pytest.mark.parametrize("dtype", ["|u1", "<i8", ">i4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_of_python_2_is_read(dtype, order):
    pixels = np.arange(600).astype(dtype).reshape((3, 200), order=order)
    read = load(python2_pickle({"data": pixels}), "test")[b"data"]
    assert read.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL))  # the last hands arrays over out of band
@pytest.mark.parametrize("dtype", ["uint8", ">i4", "float32", "bool"])
def test_arrays_and_plain_values_of_every_protocol_are_read(protocol, dtype):
    content = {"data": np.arange(12).reshape(3, 4).astype(dtype), "names": [b"a\xff", "b"], "n": (1, 2.5, None, True)}
    read = load(pickle.dumps(content, protocol), "test")
    np.testing.assert_array_equal(read["data"], content["data"])
    assert read["data"].dtype == pickle.loads(pickle.dumps(content["data"], protocol)).dtype
    assert (read["names"], read["n"]) == (content["names"], content["n"])


OBJECTS = [
    (Calls(os.system, "touch PROOF"), r"(posix|nt)\.system"),
    (Calls(eval, "1"), r"(__builtin__|builtins)\.eval"),
    (Calls(getattr, "text", "upper"), r"(__builtin__|builtins)\.getattr"),
    (Calls(np.load, "file"), r"numpy\.load|numpy\.lib\S*\.load"),
    (Calls(np.dtype, "O"), r"numpy\.dtype\('\|O'\)"),
    (np.array([{}], object), r"numpy\.dtype\('\|O'\)"),
    (os.path.join, r"posixpath\.join"),
]
OPCODES = [
    (b"(S'touch PROOF'\nios\nsystem\n.", r"os\.system"),  # INST
    (b"(cos\nsystem\nS'touch PROOF'\no.", r"os\.system"),  # OBJ
    (b"c__builtin__\neval\n(S'1'\ntR.", r"__builtin__\.eval"),
    (b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'tofile'\ntR.", r"builtins\.getattr"),
    # Dotted names reach into what is allowed, in protocol 4.
    (b"\x80\4\x8c\5numpy\x8c\x0endarray.tofile\x93.", r"numpy\.ndarray\.tofile"),
    (
        b"\x80\4\x8c\x15numpy.core.multiarray\x8c\x18_reconstruct.__globals__\x93.",
        r"numpy\.core\.multiarray\._reconstruct\.__globals__",
    ),
    (b"\x80\4\x8c\7_codecs\x8c\x0fencode.__self__\x93.", r"_codecs\.encode\.__self__"),
    (b"\x80\2c_codecs\nencode\n(X\1\0\0\0aX\n\0\0\0zlib_codectR.", r"_codecs\.encode with 'zlib_codec'"),
]


@pytest.mark.parametrize(
    ("content", "named"),
    [(pickle.dumps(value, protocol), named) for value, named in OBJECTS for protocol in (0, 2, 4)] + OPCODES,
)
def test_anything_else_is_rejected_by_name(content, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"batch 1 is rejected: its pickle calls {named},"):
        load(content, "batch 1")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"\x80", b"not a pickle", pickle.dumps([1, 2, 3])[:-2], b"\x80\2K\1tR."])
def test_damage_is_one_line(content):
    with pytest.raises(UserError, match=r"^batch 1 is damaged: .+$"):
        load(content, "batch 1")


def test_flags_that_turn_bytes_into_pointers_and_enormous_shapes_are_not_taken_over():
    flags = b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK"
    whole = python2_pickle(np.arange(16, dtype=np.uint8))
    assert flags + b"\0t" in whole
    read = load(whole.replace(flags + b"\0t", flags + b"\x3ft"), "test")
    assert not read.dtype.hasobject
    np.testing.assert_array_equal(read, np.arange(16))
    # Nor does a shape allocate anything.
    enormous = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ftU\1btR."
    assert load(b"\x80\2" + enormous, "test").size == 0


@pytest.mark.parametrize("shape", [(-4, -4), (2**40, 2**40), (17,)])
def test_shapes_that_do_not_fit_the_content_are_damage(shape):
    state = (1, shape, np.dtype("u1"), False, bytes(16))
    content = pickle.dumps(np.zeros(16, np.uint8), 2)
    damaged = pickle.dumps(Calls(_reconstruct, np.ndarray, (0,), b"b"), 2)[:-1] + pickle.dumps(state, 2)[2:-1] + b"b."
    assert load(content, "test").shape == (16,)
    with pytest.raises(UserError, match=r"damaged: an array of shape .* does not have 16 bytes"):
        load(damaged, "test")


@pytest.mark.parametrize("reads", [lambda path: load(path.read_bytes(), "test"), torch_weights.read])
def test_a_high_place_in_the_memo_takes_no_memory(reads, tmp_path):
    """Python's reader in C takes 16 bytes for each place below it: here 2 GiB, at most 64."""
    path = tmp_path / "a"
    path.write_bytes(b"\x80\x02K\x01r\0\0\0\x08.")
    memory.forget_peak()
    before = memory.peak_mib()
    with contextlib.suppress(UserError):
        assert reads(path) == 1
    assert memory.peak_mib() - before < 100
