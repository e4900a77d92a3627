"""The contract of a member: one kind of payload of a sample, as the builder writes it and as readers read it."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from shardify.errors import FormatError

if TYPE_CHECKING:
    from torch import Tensor

    Pixels = np.ndarray | Tensor

DAMAGE = (FormatError, ValueError, RuntimeError, OSError)  # what a damaged payload makes the decoders raise
MAX_BYTES = 1 << 30  # of one decoded payload: memory is taken for it before it is read


@dataclass(frozen=True, kw_only=True)
class Member(ABC):
    """One payload per clip: how it is encoded, and where its decoded values lie in memory.

    The fields of a kind are all that decides its bytes; index.json holds them. Raises ValueError for values that no
    build writes.
    """

    kind: ClassVar[str]  # in index.json
    name: str  # among the members of a folder; samples.npy has NAME_offset, NAME_length and NAME_crc

    @property
    @abstractmethod
    def extension(self) -> str:
        """What follows the key and a dot in the name of its file."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype:
        """Of the decoded values."""

    @property
    @abstractmethod
    def stored_shape(self) -> tuple[int, ...]:
        """Of a decoded payload, as `decode_into` fills it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a clip's values, as `unpack` cuts them out of a decoded payload."""
        return self.stored_shape

    @property
    def num_bytes(self) -> int:
        """Of a clip's values in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def stored_bytes(self) -> int:
        """Of a decoded payload in memory."""
        return math.prod(self.stored_shape) * self.dtype.itemsize

    @abstractmethod
    def encode(self, values: np.ndarray) -> bytes:
        """Values of `shape` as a payload; the same bytes for the same values."""

    @abstractmethod
    def decode_into(self, payload: bytes, out: Pixels) -> None:
        """Decode a payload into `out`, of `stored_shape`. Raises one of DAMAGE where it is damaged or does not fit."""

    def unpack(self, stored: Pixels, copy: Callable[[Pixels], Pixels]) -> Pixels:
        """Decoded payloads (B, *stored_shape) as values (B, *shape); `copy` makes contiguous copies."""
        return copy(stored)

    def arrange(self, values: Pixels) -> Pixels:
        """Values (B, *shape) with the axes in the order in which models take them, as a view."""
        return values

    def decode(self, payload: bytes) -> np.ndarray:
        """A payload as values of `shape`. Raises one of DAMAGE, as `decode_into` does."""
        stored = np.empty((1, *self.stored_shape), self.dtype)
        self.decode_into(payload, stored[0])
        return self.unpack(stored, np.ascontiguousarray)[0]

    def picture(self, values: np.ndarray) -> np.ndarray | None:
        """Values of a clip for people to look at, uint8 (H, W, 3), time from left to right; None: nothing to see."""
        return None

    def notes(self) -> list[str]:
        """What people should know of it beside its shape, in lines."""
        return []

    def to_dict(self) -> dict:
        """The entry in index.json: the kind, and all that decides the bytes."""
        fields = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        del fields["name"]
        return {"kind": self.kind, **fields}

    @classmethod
    def from_dict(cls, name: str, about: Mapping) -> Member:
        """The member of an entry in index.json. Raises ValueError."""
        names = [field.name for field in dataclasses.fields(cls) if field.name != "name"]
        missing = [field for field in names if field not in about]
        if missing:
            raise ValueError(f"members.{name} has no {missing[0]}")
        return cls(name=name, **{field: about[field] for field in names})

    def _check(self, is_right: bool, field: str, allowed: str) -> None:
        if not is_right:
            raise ValueError(f"members.{self.name}.{field} is {getattr(self, field)!r}, not {allowed}")


def is_whole(value: object, least: int, most: int) -> bool:
    """Whether it is an int, and no bool, from `least` to `most`."""
    return type(value) is int and least <= value <= most
