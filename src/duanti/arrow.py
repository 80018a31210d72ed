"""Arrow arrays from Python and numpy, and back, without pandas.

Owns these few conversions. pyarrow's own ask pandas, where that is installed, whether a value is one of its: that
import costs a command that labels an article half a second and 60 MB. Refuses to know what the values mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def strings(values: Sequence[str | None]) -> pa.LargeStringArray:
    """Return an array of strings; None is null."""
    encoded = [None if value is None else value.encode() for value in values]
    lengths = np.fromiter((0 if value is None else len(value) for value in encoded), np.int64, len(encoded))
    present = np.fromiter((value is not None for value in encoded), np.bool_, len(encoded))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return large_strings(offsets, b"".join(filter(None, encoded)), present)


def large_strings(offsets: NDArray[np.int64], data: Any, present: NDArray[np.bool_]) -> pa.LargeStringArray:
    """Return the array of UTF-8 strings that begin and end at ``offsets`` in ``data``; null where not ``present``."""
    buffers = [_validity(present), pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_string(), len(present), buffers)


def string(value: str) -> pa.Scalar:
    """Return a large string of Arrow's."""
    return strings([value])[0]


def numbers(values: NDArray[Any], present: NDArray[np.bool_] | None = None) -> pa.Array:
    """Return an array of numbers, or of truth values, over numpy's memory; null where not ``present``."""
    data = np.ascontiguousarray(values)
    validity = None if present is None else _validity(present)
    if data.dtype == np.bool_:
        return pa.Array.from_buffers(
            pa.bool_(), len(data), [validity, pa.py_buffer(np.packbits(data, bitorder="little"))]
        )
    return pa.Array.from_buffers(pa.from_numpy_dtype(data.dtype), len(data), [validity, pa.py_buffer(data)])


def as_numpy(array: pa.Array) -> NDArray[Any]:
    """Return an array of numbers, or of truth values as 0 and 1, without nulls, as numpy's."""
    return np.from_dlpack(array.cast(pa.uint8()) if pa.types.is_boolean(array.type) else array)


def _validity(present: NDArray[np.bool_]) -> pa.Buffer | None:
    return None if present.all() else _bits(present)


def _bits(truths: NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(truths, bitorder="little"))
