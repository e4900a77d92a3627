"""Arrays of any shape as a member of a sample: .npy files without pickle, each of the same shape and dtype."""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from shardify.format.members.base import MAX_BYTES, Member, is_whole

if TYPE_CHECKING:
    from shardify.format.members.base import Pixels

# The header that NumPy writes. Not by NumPy's own reader, whose parser takes sound headers for too deep in Python 3.11
# where several threads parse at once (github.com/python/cpython/issues/106905).
MAGIC = b"\x93NUMPY\x01\x00"
HEADER = re.compile(
    rb"\{'descr': '([<|][a-z][0-9])', 'fortran_order': False, "
    rb"'shape': \(((?:[0-9]{1,12}, )*(?:[0-9]{1,12},?)?)\), ?\}[ \n]*"
)
DTYPES = ("uint8", "int16", "int32", "int64", "float16", "float32")


class NumpyFile(Member):
    """The contract of members whose payload is a .npy file, `<key>.NAME.npy`."""

    @property
    def extension(self) -> str:
        return f"{self.name}.npy"

    def encode(self, values: np.ndarray) -> bytes:
        return encode_array(values.astype(self.dtype, casting="safe"))

    def decode_into(self, payload: bytes, out: Pixels) -> None:
        decode_array_into(payload, out)


@dataclass(frozen=True, kw_only=True)
class Array(NumpyFile):
    """`<key>.NAME.npy`, values of one dtype and shape."""

    kind: ClassVar[str] = "array"
    sides: tuple[int, ...]
    type: str

    def __post_init__(self) -> None:
        self._check(self.type in DTYPES, "type", " | ".join(DTYPES))
        is_right = isinstance(self.sides, (list, tuple)) and all(is_whole(side, 1, MAX_BYTES) for side in self.sides)
        self._check(is_right and self.stored_bytes <= MAX_BYTES, "sides", "lengths of the axes, 1 GiB in all at most")
        object.__setattr__(self, "sides", tuple(self.sides))  # JSON has lists

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.type)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return tuple(self.sides)


def encode_array(values: np.ndarray) -> bytes:
    """An array as the bytes of a .npy file, version 1.0, C order, no pickle."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(values), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def decode_array(payload: bytes) -> np.ndarray:
    """The bytes of a .npy file as a read-only view of its values; never unpickles.

    Raises ValueError for anything that `encode_array` would not have written.
    """
    shape, dtype, offset = array_header(payload)
    if math.prod(shape) * dtype.itemsize != len(payload) - offset:
        raise ValueError(f"holds {len(payload) - offset} bytes of values, its header says {dtype} {shape}")
    return np.frombuffer(payload, dtype, offset=offset).reshape(shape)


def decode_array_into(payload: bytes, out: Pixels) -> None:
    """Copy the values of a .npy file. Raises ValueError where it is damaged, or not of the shape and dtype of `out`."""
    values, target = decode_array(payload), np.asarray(out)
    if (values.shape, values.dtype) != (target.shape, target.dtype):
        raise ValueError(f"holds {values.dtype} {values.shape}, not {target.dtype} {target.shape}")
    target[...] = values


def array_header(head: bytes) -> tuple[tuple[int, ...], np.dtype, int]:
    """The shape and dtype that a .npy file's first bytes promise, and how many bytes come before the values.

    Raises ValueError as `decode_array` does.
    """
    start = len(MAGIC) + 2
    length = int.from_bytes(head[len(MAGIC) : start], "little")
    text = HEADER.fullmatch(head, start, start + length) if head[: len(MAGIC)] == MAGIC else None
    if text is None or len(head) < start + length:
        raise ValueError("is no .npy file that is read here (version 1.0, C order, numbers)")
    dtype = next((np.dtype(name) for name in DTYPES if np.dtype(name).str == bytes(text[1]).decode()), None)
    if dtype is None:
        raise ValueError(f"holds {bytes(text[1]).decode()}, not {' | '.join(DTYPES)}")
    return tuple(int(side) for side in bytes(text[2]).split(b",") if side.strip()), dtype, start + length
