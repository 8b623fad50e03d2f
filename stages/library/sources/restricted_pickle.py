"""Pickles that others published, read by an unpickler that can build NumPy arrays and plain values and nothing else."""

import io
import math
import pickle
from typing import Any

import numpy as np

from stages.library.common.console import UserError


def load(content: bytes, source: str) -> Any:
    """Unpickles NumPy arrays of numbers, and containers of plain values, of protocol 0 to 4.

    Strings that Python 2 wrote come back as bytes; arrays as a subclass of numpy.ndarray. UserError, which names
    `source`: the pickle asks for anything else (which could run a program), or is damaged.
    """
    try:
        return _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except _RefusedError as error:
        raise UserError(
            f"{source} is rejected: its pickle calls {error}, which reading numbers does not need"
        ) from error
    except Exception as error:  # a damaged pickle raises anything, from EOFError to MemoryError
        raise UserError(f"{source} is damaged: {' '.join(str(error).split()) or type(error).__name__}") from error


class _RefusedError(Exception):
    """Names the global that a pickle asked for."""


class _NumberType:
    """Stands in for numpy.dtype, whose own state holds flags that make NumPy take plain bytes for pointers."""

    def __init__(self, code: bytes | str, *_: object):
        self.dtype = np.dtype(code.decode("ascii") if isinstance(code, bytes) else code)
        if self.dtype.kind not in "biuf":
            raise _RefusedError(f"numpy.dtype({self.dtype.str!r})")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order: Any = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray):
    """An array that checks its state before NumPy, which trusts it, takes it over."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, shape, number_type, is_fortran, content = state
        dtype = number_type.dtype
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(content):
            raise ValueError(f"an array of shape {shape} does not have {len(content)} bytes")
        super().__setstate__((version, shape, dtype, is_fortran, bytes(content)))


def _empty_array(*_: object) -> np.ndarray:
    # Pickles make an empty array and then set its state; the shape is not taken from them, for it may be enormous.
    return np.ndarray.__new__(_Array, 0, np.uint8)


def _latin1(text: str, encoding: bytes | str) -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise _RefusedError(f"_codecs.encode with {encoding!r}")
    return text.encode("latin1")


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): None,  # only ever an argument of `_reconstruct`
    ("numpy", "dtype"): _NumberType,
    ("_codecs", "encode"): _latin1,  # how protocol 2 holds the bytes of Python 3
}


class _Unpickler(pickle._Unpickler):  # in Python: that in C takes memory up to the highest place of the memo
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _RefusedError(f"{module}.{name}") from None
