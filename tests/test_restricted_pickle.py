"""Pickles of numbers are read as Python 2 and 3 wrote them; any other is refused without running anything."""

import os
import pickle
import struct

import numpy as np
import pytest
from numpy._core.multiarray import _reconstruct

from stages.library.console import UserError
from stages.library.restricted_pickle import load


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def python2_array(pixels):
    """What Python 2 and NumPy 1 wrote for a uint8 array in protocol 2, opcode by opcode."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    shape = b"(" + b"".join(b"J" + struct.pack("<i", side) for side in pixels.shape) + b"t"
    dtype = (
        b"cnumpy\ndtype\n(" + text(b"u1") + b"K\0K\1tR(K\3" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    )
    content = b"T" + struct.pack("<i", pixels.nbytes) + pixels.tobytes()
    start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0t" + text(b"b") + b"tR"
    return b"\x80\2" + start + b"(K\1" + shape + dtype + b"\x89" + content + b"tb."


def test_an_array_of_python_2_is_read():
    pixels = np.arange(600, dtype=np.uint8).reshape(3, 200)
    read = load(python2_array(pixels), "test")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pixels)


def test_strings_of_python_2_are_bytes():
    assert load(b"\x80\2}U\6labels]K\1as.", "test") == {b"labels": [1]}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL))  # the last hands arrays over out of band
@pytest.mark.parametrize("dtype", ["uint8", ">i4", "float32", "bool"])
def test_arrays_and_plain_values_of_every_protocol_are_read(protocol, dtype):
    content = {"data": np.arange(12).reshape(3, 4).astype(dtype), "names": [b"a\xff", "b"], "n": (1, 2.5, None, True)}
    read = load(pickle.dumps(content, protocol), "test")
    np.testing.assert_array_equal(read["data"], content["data"])
    assert read["data"].dtype == pickle.loads(pickle.dumps(content["data"], protocol)).dtype
    assert (read["names"], read["n"]) == (content["names"], content["n"])


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (Calls(os.system, "touch PROOF"), r"(posix|nt)\.system"),
        (Calls(eval, "1"), r"(__builtin__|builtins)\.eval"),
        (Calls(getattr, "text", "upper"), r"(__builtin__|builtins)\.getattr"),
        (Calls(np.load, "file"), r"numpy\.load|numpy\.lib\S*\.load"),
        (Calls(np.dtype, "O"), r"numpy\.dtype\('\|O'\)"),
        (np.array([{}], object), r"numpy\.dtype\('\|O'\)"),
        (os.path.join, r"posixpath\.join"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_anything_else_is_refused_by_name(content, named, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"batch 1 is refused: its pickle calls {named},"):
        load(pickle.dumps(content, protocol), "batch 1")
    assert not list(tmp_path.iterdir())


def test_other_codecs_are_refused():
    with pytest.raises(UserError, match=r"_codecs\.encode with 'zlib_codec'"):
        load(b"\x80\2c_codecs\nencode\n(X\1\0\0\0aX\n\0\0\0zlib_codectR.", "test")


def test_a_shape_from_the_pickle_allocates_nothing():
    enormous = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ftU\1btR."
    assert load(b"\x80\2" + enormous, "test").size == 0


@pytest.mark.parametrize("content", [b"", b"\x80", b"not a pickle", pickle.dumps([1, 2, 3])[:-2], b"\x80\2K\1tR."])
def test_damage_is_one_line(content):
    with pytest.raises(UserError, match=r"^batch 1 is damaged: .+$"):
        load(content, "batch 1")


def test_flags_that_turn_bytes_into_pointers_are_not_taken_over():
    flags = b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK"
    whole = python2_array(np.arange(16, dtype=np.uint8))
    assert flags + b"\0tb" in whole
    read = load(whole.replace(flags + b"\0tb", flags + b"\x3ftb"), "test")
    assert not read.dtype.hasobject
    np.testing.assert_array_equal(read, np.arange(16))


@pytest.mark.parametrize("shape", [(-4, -4), (2**40, 2**40), (17,)])
def test_shapes_that_do_not_fit_the_content_are_damage(shape):
    state = (1, shape, np.dtype("u1"), False, bytes(16))
    content = pickle.dumps(np.zeros(16, np.uint8), 2)
    damaged = pickle.dumps(Calls(_reconstruct, np.ndarray, (0,), b"b"), 2)[:-1] + pickle.dumps(state, 2)[2:-1] + b"b."
    assert load(content, "test").shape == (16,)
    with pytest.raises(UserError, match=r"damaged: an array of shape .* does not have 16 bytes"):
        load(damaged, "test")


def test_an_array_whose_content_is_too_short_is_damaged():
    whole = python2_array(np.zeros((4, 4), np.uint8))
    with pytest.raises(UserError, match="damaged"):
        load(whole.replace(b"J\4\0\0\0", b"J\5\0\0\0", 1), "test")
