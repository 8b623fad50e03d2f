"""Pickles that others published, read by an unpickler that can build NumPy arrays and plain values and nothing else."""

import io
import pickle
from typing import Any

import numpy as np

from stages.library.console import UserError


def load(content: bytes, source: str) -> Any:
    """Unpickles NumPy arrays of numbers, and containers of plain values.

    Strings that Python 2 wrote come back as bytes.

    Args:
      content: a pickle of any protocol.
      source: what to call it in errors.

    Raises:
      UserError: the pickle asks for anything else (which could run a program), or is damaged.
    """
    try:
        return _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except _RefusedError as error:
        raise UserError(
            f"{source} is refused: its pickle calls {error}, which reading numbers does not need"
        ) from error
    except Exception as error:  # a damaged pickle raises anything, from EOFError to MemoryError
        raise UserError(f"{source} is damaged: {' '.join(str(error).split()) or type(error).__name__}") from error


class _RefusedError(Exception):
    """Names the global that a pickle asked for."""


def _empty_array(*_: object) -> np.ndarray:
    # Pickles make an empty array and then set its state; the shape is not taken from them, for it may be enormous.
    return np.empty(0, np.uint8)


def _number_type(code: bytes | str, *_: object) -> np.dtype[Any]:
    # NumPy's own constructor warns about the flags that old pickles pass after the code.
    dtype = np.dtype(code.decode("ascii") if isinstance(code, bytes) else code)
    if dtype.kind not in "biuf":
        raise _RefusedError(f"numpy.dtype({dtype.str!r})")
    return dtype


def _latin1(text: str, encoding: bytes | str) -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise _RefusedError(f"_codecs.encode with {encoding!r}")
    return text.encode("latin1")


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _number_type,
    ("_codecs", "encode"): _latin1,  # how protocol 2 holds the bytes of Python 3
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _RefusedError(f"{module}.{name}") from None
