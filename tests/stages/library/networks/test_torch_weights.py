"""torch's old weight format: strides, damage, and files that try to run something."""

import contextlib
import io
import os
import pickle
import struct
import sys
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.library.common.console import UserError
from stages.library.networks import torch_weights
from tests.layouts import Calls

STORAGES = {"float32": "FloatStorage", "int64": "LongStorage", "float16": "HalfStorage"}


class Storage(SimpleNamespace):
    """Its `key` and `values`."""


def view(storage, size, strides, offset=0):
    """A tensor as torch pickles it, which is a call."""
    rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
    return Calls(rebuild, storage, offset, size, strides, False, OrderedDict())


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        kind = getattr(sys.modules["torch"], STORAGES[obj.values.dtype.name])
        return ("storage", kind, obj.key, "cpu", obj.values.size, None)


@pytest.fixture(autouse=True)
def torch_names(monkeypatch):
    """Modules that make `pickle` write the globals that torch writes."""

    def _rebuild_tensor_v2():
        raise AssertionError("the reader must not call it")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    kinds = {name: type(name, (), {"__module__": "torch"}) for name in STORAGES.values()}
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(**kinds))
    monkeypatch.setitem(sys.modules, "torch._utils", SimpleNamespace(_rebuild_tensor_v2=_rebuild_tensor_v2))


def old_format(state, *storages):
    file = io.BytesIO()
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    for content in (0x1950A86A20F9469CFC6C, 1001, system, state, [storage.key for storage in storages]):
        Pickler(file, protocol=2).dump(content)
    for storage in storages:
        file.write(struct.pack("<q", storage.values.size) + storage.values.tobytes())
    return file.getvalue()


@pytest.fixture
def read(tmp_path):
    def read(content):
        (tmp_path / "weights.pth").write_bytes(content)
        return torch_weights.read(tmp_path / "weights.pth")

    return read


def sample():
    first = Storage(key="94", values=np.arange(24, dtype=np.float32))
    second = Storage(key="17", values=np.array([7], np.int64))
    third = Storage(key="3", values=np.array([0.5, -2], np.float16))
    state = OrderedDict(
        rows=view(first, (2, 3, 4), (12, 4, 1)),
        channels_last=view(first, (2, 4, 3), (12, 1, 4)),
        part=view(first, (5,), (2,), offset=3),
        steps=view(second, (), ()),
        half=view(third, (2,), (1,)),
    )
    vars(state)["_metadata"] = OrderedDict(version=1)
    return old_format(state, second, first, third)


def test_strides_and_offsets_are_honoured(read):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    expected = {
        "rows": values,
        "channels_last": values.transpose(0, 2, 1),
        "part": np.array([3, 5, 7, 9, 11], np.float32),
        "steps": np.array(7),
        "half": np.array([0.5, -2], np.float16),
    }
    for (name, value), (wanted, content) in zip(read(sample()).items(), expected.items(), strict=True):
        assert (name, value.flags.c_contiguous) == (wanted, True)
        np.testing.assert_array_equal(value, content, strict=True)


def test_a_file_that_runs_something_is_rejected_and_named(read, tmp_path):
    victim = tmp_path / "victim"
    victim.touch()
    attribute_of_what_is_let_in = b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93."
    for content, name in (
        (old_format(OrderedDict(x=Calls(os.remove, str(victim)))), r"posix\.remove"),
        (pickle.dumps(Calls(exec, f"__import__('os').remove({str(victim)!r})"), protocol=4), r"builtins\.exec"),
        (attribute_of_what_is_let_in, r"collections\.OrderedDict\.fromkeys"),
    ):
        with pytest.raises(UserError, match=rf"asks for {name}, which no weight file needs: rejected"):
            read(content)
    assert victim.exists()


OUTSIDE: list[tuple] = [((25,), (1,), 0), ((24,), (1,), 1), ((2, 3), (12, 7), 0), ((2,), (2**62,), 0), ((2,), (-1,), 4)]
OUTSIDE += [((-2,), (1,), 0), ((2,), (1,), -5), ((10**12,), (0,), 0), ((2, 3), (1,), 0), ((1.5,), (1,), 0)]


def test_views_that_leave_their_storage_and_storages_longer_than_the_file_are_rejected(read):
    storage = Storage(key="1", values=np.arange(24, dtype=np.float32))
    for size, strides, offset in OUTSIDE:
        with pytest.raises(UserError, match="view"):
            read(old_format(OrderedDict(x=view(storage, size, strides, offset)), storage))
    content = old_format(OrderedDict(x=view(storage, (24,), (1,))), storage)
    for count in (2**60, -4):
        with pytest.raises(UserError, match="damaged"):
            read(content[:-104] + struct.pack("<q", count) + content[-96:])


def test_a_truncated_file_is_rejected_wherever_it_ends(read):
    content = sample()
    for end in range(len(content)):
        with pytest.raises(UserError, match=r"weights\.pth"):
            read(content[:end])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_never_raises_anything_else(read, data):
    content = bytearray(sample())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UserError):
        assert all(isinstance(value, np.ndarray) for value in read(bytes(content)).values())


@pytest.mark.parametrize("content", [b"PK\x03\x04" + bytes(100), b"\x89HDF\r\n", pickle.dumps({"a": 1})])
def test_other_formats_are_rejected(read, tmp_path, content):
    with pytest.raises(UserError, match="no weight file of torch's old format"):
        read(content)
    with pytest.raises(UserError, match=r"absent\.pth"):
        torch_weights.read(tmp_path / "absent.pth")
