"""samples.npy: one fixed-size record per clip, whose fields follow from the members and heads of index.json alone."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

OPTIONAL = ("mel",)  # members that a clip may lack; its payload is there all the same
CHUNK = 1 << 16  # keys that are looked at at a time: 5 MB
UNLABELLED = -1
_IN_KEYS = np.zeros(256, bool)
_IN_KEYS[np.frombuffer(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", np.uint8)] = True


@dataclass(frozen=True)
class Head:
    """A named label of every clip, and the names of its classes. The first head of a folder is the primary one."""

    name: str
    classes: list[str]

    @property
    def field(self) -> str:
        """The field of samples.npy that holds the class indices."""
        return f"label_{self.name}"

    @property
    def column(self) -> str:
        """The column of samples.csv that holds them."""
        return f"label.{self.name}"

    def index_of(self, class_name: str) -> int:
        """The index of a class, -1 for one that the head does not have."""
        return self.classes.index(class_name) if class_name in self.classes else UNLABELLED

    def count(self, samples: np.ndarray) -> dict[str, int]:
        """How many of the records are of each class, and at an empty name those without a label, if there are any."""
        unlabelled, *counts = np.bincount(samples[self.field] + 1, minlength=len(self.classes) + 1).tolist()
        return dict(zip(self.classes, counts, strict=True)) | ({"": unlabelled} if unlabelled else {})

    def class_in(self, row: Mapping[str, str]) -> str:
        """The name of the class in a row of samples.csv; empty where the clip has no label."""
        label = int(row[self.column])
        return "" if label == UNLABELLED else self.classes[label]


PRIMARY = "class"  # the name of the one head of folder names, and of version 1

# In plan order. `shard` is the number in the shard's name; `split` counts in SPLITS; `source` is the number of the
# input among those of samples.csv, the same for all clips of one video; `original` the one that a fake was made from,
# or -1. Version 1 has no such numbers, and its one member and one label have no names.
_VERSION_1 = (
    ("key", "S80"), ("split", "u1"), ("shard", "<u4"), ("offset", "<u8"), ("length", "<u4"), ("label", "<i4"),
    ("target", "<f8"), ("crc", "<u4"), ("group", "<u4"),
)  # fmt: skip
DTYPE_1 = np.dtype(list(_VERSION_1))
_NAMES_1 = {"offset": "frames_offset", "length": "frames_length", "crc": "frames_crc", "label": f"label_{PRIMARY}"}


def sample_dtype(members: Iterable[str] = ("frames",), heads: Iterable[str] = (PRIMARY,)) -> np.dtype:
    """The dtype of samples.npy, version 2, for members and heads of these names.

    NAME_offset and NAME_length are bytes of the payload inside its tar, NAME_crc is its zlib.crc32; mel_present is
    whether the clip has sound; label_NAME is the class index, or -1 where the clip has no label.
    """
    fields = [
        ("key", "S80"), ("split", "u1"), ("shard", "<u4"), ("group", "<u4"), ("target", "<f8"), ("source", "<u4"),
        ("original", "<i4"),
    ]  # fmt: skip
    fields += [(field, kind) for name in members for field, kind in member_fields(name).items()]
    return np.dtype(fields + [(f"label_{name}", "<i2") for name in heads])


def member_fields(name: str) -> dict[str, str]:
    """The fields of samples.npy that a member of this name has, and their types."""
    fields = {f"{name}_offset": "<u8", f"{name}_length": "<u4", f"{name}_crc": "<u4"}
    return fields | ({f"{name}_present": "?"} if name in OPTIONAL else {})


def name_fields(samples: np.ndarray) -> np.ndarray:
    """Records of version 1 as a view whose fields have the names of version 2."""
    return samples.view(np.dtype([(_NAMES_1.get(name, name), kind) for name, kind in _VERSION_1]))


def npy_bytes(samples: np.ndarray) -> bytes:
    """samples.npy with these records."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, samples, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def unsafe_keys(keys: np.ndarray) -> Iterator[int]:
    """Numbers of the keys, `S80` (N,), that are no `[A-Za-z0-9_-]{1,80}`: a key becomes a file's name."""
    for start in range(0, len(keys), CHUNK):
        part = np.ascontiguousarray(keys[start : start + CHUNK])
        letters = part.view(np.uint8).reshape(len(part), -1)
        is_end = letters == 0
        wrong = ~(_IN_KEYS[letters] | is_end).all(axis=1) | is_end[:, 0]
        wrong |= (is_end[:, :-1] & ~is_end[:, 1:]).any(axis=1)  # a zero byte within
        yield from start + np.flatnonzero(wrong)


def wrong_labels(samples: np.ndarray, heads: list[Head]) -> Iterator[tuple[int, Head]]:
    """Numbers of the clips whose label is none of its head's classes; of the primary head none may be missing."""
    for head in heads:
        labels = samples[head.field]
        least = 0 if head is heads[0] else UNLABELLED
        for number in np.flatnonzero((labels < least) | (labels >= len(head.classes))):
            yield int(number), head
