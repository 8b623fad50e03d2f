"""Reads a weight file of torch's old format (before 1.6, not a zip) with NumPy alone.

Layout: five pickles (magic number, protocol, system info, the state dict, the storage keys), then for each key the
number of elements as int64 and the elements. A tensor of the state dict is a view (offset, size, strides) of a storage.

Pickles run what they name, so this reader names everything that it lets in: OrderedDict, the rebuilding of a tensor and
the storages. A view is checked against its storage, for a hostile one would read other memory.
"""

import io
import math
import pickle
import struct
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.library.common.console import UserError
from stages.library.networks import named_weights

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
FLOATS = {"Double": "<f8", "Float": "<f4", "Half": "<f2"}
INTEGERS = {"Long": "<i8", "Int": "<i4", "Short": "<i2", "Char": "i1", "Byte": "u1", "Bool": "?"}


def read(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a state dict by name, in the file's order, C-contiguous whatever their strides there.

    Raises:
      UserError: the file can't be read, is truncated or of another format, or asks for anything but tensors.
    """
    try:
        return _parse(io.BytesIO(path.read_bytes()))
    except _RefusedError as error:
        raise UserError(
            f"{path} asks for {error}, which no weight file needs: rejected. Use the published file"
        ) from error
    except (pickle.UnpicklingError, struct.error, AttributeError, *named_weights.DAMAGE) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is no weight file of torch's old format, or is damaged: {reason}") from error


class _RefusedError(Exception):
    """The pickle names a global that is not let in; the message is its name."""


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    strides: tuple[int, ...]


_GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    # The function's other arguments concern training.
    ("torch._utils", "_rebuild_tensor_v2"): lambda *arguments: _Tensor(*arguments[:4]),
    **{("torch", f"{kind}Storage"): np.dtype(code) for kind, code in (FLOATS | INTEGERS).items()},
}


class _Unpickler(pickle._Unpickler):  # in Python: that in C takes memory up to the highest place of the memo
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _GLOBALS:
            raise _RefusedError(f"{module}.{name}")
        return _GLOBALS[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _location, _count, view = pid
        if kind != "storage" or view is not None:
            raise ValueError(f"unknown persistent id {pid!r}")
        return _Storage(key, dtype)


def _parse(file: io.BytesIO) -> dict[str, np.ndarray]:
    contents = (_Unpickler(file).load() for _ in range(5))
    if (next(contents), next(contents)) != (MAGIC_NUMBER, PROTOCOL):
        raise ValueError("wrong magic number or protocol")
    system, state, keys = contents
    if system["little_endian"] is not True:
        raise ValueError("not little-endian")
    if not isinstance(state, Mapping) or not all(isinstance(tensor, _Tensor) for tensor in state.values()):
        raise ValueError("the state dict must hold tensors only")
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in state.values()}
    storages = {key: _read_storage(file, dtypes[key]) for key in keys}
    return {str(name): _view(tensor, storages[tensor.storage.key]) for name, tensor in state.items()}


def _read_storage(file: io.BytesIO, dtype: np.dtype) -> np.ndarray:
    (count,) = struct.unpack("<q", file.read(8))
    content = file.read(count * dtype.itemsize) if count >= 0 else b""
    if len(content) != count * dtype.itemsize:
        raise ValueError(f"a storage of {count} elements is cut short")
    return np.frombuffer(content, dtype)


def _view(tensor: _Tensor, storage: np.ndarray) -> np.ndarray:
    _, offset, size, strides = tensor
    numbers = (offset, *size, *strides)
    if not all(isinstance(number, int) and number >= 0 for number in numbers) or len(size) != len(strides):
        raise ValueError(f"impossible view: offset {offset}, size {size}, strides {strides}")
    last = offset + sum((length - 1) * stride for length, stride in zip(size, strides, strict=True))
    if storage.dtype != tensor.storage.dtype or last >= storage.size or math.prod(size) > storage.size:
        raise ValueError(f"a view of size {size} and strides {strides} leaves its storage of {storage.size} elements")
    bytes_per_step = tuple(stride * storage.itemsize for stride in strides)
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(storage[offset:], size, bytes_per_step)).reshape(size)
