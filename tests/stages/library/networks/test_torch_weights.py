"""torch's old weight format: strides, damage, and files that try to run something."""

import io
import os
import pickle
import struct
import sys
import types
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.library.common.console import UserError
from stages.library.networks import torch_weights


class Storage:
    def __init__(self, key, values):
        self.key, self.values = key, values


class View:
    """A tensor as torch pickles it."""

    def __init__(self, storage, size, strides, offset=0):
        self.arguments: tuple[object, ...] = (storage, offset, size, strides, False, OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        names = {"float32": "FloatStorage", "int64": "LongStorage", "float16": "HalfStorage"}
        kind = getattr(sys.modules["torch"], names[obj.values.dtype.name])
        return ("storage", kind, obj.key, "cpu", obj.values.size, None)


@pytest.fixture(autouse=True)
def torch_names(monkeypatch):
    """Modules that make `pickle` write the globals that torch writes."""

    def _rebuild_tensor_v2():
        raise AssertionError("the reader must not call it")

    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "LongStorage", "HalfStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    vars(utils)["_rebuild_tensor_v2"] = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def old_format(state, storages=()):
    file = io.BytesIO()
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    for content in (0x1950A86A20F9469CFC6C, 1001, system, state, [storage.key for storage in storages]):
        Pickler(file, protocol=2).dump(content)
    for storage in storages:
        file.write(struct.pack("<q", storage.values.size) + storage.values.tobytes())
    return file.getvalue()


def read(tmp_path: Path, content: bytes):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    return torch_weights.read(path)


def sample():
    first = Storage("94", np.arange(24, dtype=np.float32))
    second = Storage("17", np.array([7], np.int64))
    third = Storage("3", np.array([0.5, -2], np.float16))
    state = OrderedDict(
        rows=View(first, (2, 3, 4), (12, 4, 1)),
        channels_last=View(first, (2, 4, 3), (12, 1, 4)),
        part=View(first, (5,), (2,), offset=3),
        steps=View(second, (), ()),
        half=View(third, (2,), (1,)),
    )
    vars(state)["_metadata"] = OrderedDict(version=1)
    return old_format(state, [second, first, third])


def test_strides_and_offsets_are_honoured(tmp_path):
    state = read(tmp_path, sample())
    values = np.arange(24, dtype=np.float32)
    assert list(state) == ["rows", "channels_last", "part", "steps", "half"]
    np.testing.assert_array_equal(state["rows"], values.reshape(2, 3, 4))
    np.testing.assert_array_equal(state["channels_last"], values.reshape(2, 3, 4).transpose(0, 2, 1))
    np.testing.assert_array_equal(state["part"], [3, 5, 7, 9, 11])
    assert (state["steps"].dtype, state["steps"].tolist()) == (np.int64, 7)
    assert (state["half"].dtype, state["half"].tolist()) == (np.float16, [0.5, -2])
    assert all(value.flags.c_contiguous for value in state.values())


class Hostile:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def test_a_file_that_runs_something_is_rejected_and_named(tmp_path):
    victim = tmp_path / "victim"
    victim.touch()
    with pytest.raises(UserError, match=r"asks for posix\.remove, which no weight file needs: rejected"):
        read(tmp_path, old_format(OrderedDict(x=Hostile(os.remove, str(victim)))))
    with pytest.raises(UserError, match=r"asks for builtins\.exec"):
        read(tmp_path, pickle.dumps(Hostile(exec, f"__import__('os').remove({str(victim)!r})"), protocol=4))
    assert victim.exists()
    attribute_of_what_is_let_in = b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93."
    with pytest.raises(UserError, match=r"collections\.OrderedDict\.fromkeys"):
        read(tmp_path, attribute_of_what_is_let_in)


@pytest.mark.parametrize(
    ("size", "strides", "offset"),
    [
        ((25,), (1,), 0),
        ((24,), (1,), 1),
        ((2, 3), (12, 7), 0),
        ((2,), (2**62,), 0),
        ((2,), (-1,), 4),
        ((-2,), (1,), 0),
        ((2,), (1,), -5),
        ((10**12,), (0,), 0),
        ((2, 3), (1,), 0),
        ((1.5,), (1,), 0),
    ],
)
def test_views_that_leave_their_storage_are_rejected(tmp_path, size, strides, offset):
    storage = Storage("1", np.arange(24, dtype=np.float32))
    with pytest.raises(UserError, match="view"):
        read(tmp_path, old_format(OrderedDict(x=View(storage, size, strides, offset)), [storage]))


def test_a_storage_longer_than_the_file_is_rejected(tmp_path):
    storage = Storage("1", np.arange(4, dtype=np.float32))
    content = old_format(OrderedDict(x=View(storage, (4,), (1,))), [storage])
    for count in (2**60, -4):
        with pytest.raises(UserError, match="damaged"):
            read(tmp_path, content[:-24] + struct.pack("<q", count) + content[-16:])


def test_a_truncated_file_is_rejected_wherever_it_ends(tmp_path):
    content = sample()
    for end in range(len(content)):
        with pytest.raises(UserError, match=r"weights\.pth"):
            read(tmp_path, content[:end])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_never_raises_anything_else(tmp_path, data):
    content = bytearray(sample())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        state = read(tmp_path, bytes(content))
    except UserError:
        return
    assert all(isinstance(value, np.ndarray) for value in state.values())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(100), b"\x89HDF\r\n", pickle.dumps({"a": 1})])
def test_other_formats_are_rejected(tmp_path, content):
    with pytest.raises(UserError, match="no weight file of torch's old format"):
        read(tmp_path, content)
    with pytest.raises(UserError, match=r"absent\.pth"):
        torch_weights.read(tmp_path / "absent.pth")
