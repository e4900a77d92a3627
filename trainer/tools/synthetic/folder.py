"""A folder of synthetic pictures: a folder of PNGs for each class, the manifest of a build, and what made them."""

from __future__ import annotations

import glob
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shardify.format.synthetic import KEYWORD, MARK
from shardify.storage.local import list_names, write_atomically
from shardify.storage.table import table_bytes
from trainer.errors import SettingsError

MANIFEST, RECORD = "manifest.csv", "record.json"
COLUMNS = ("path", "class", "split", "synthetic")
COMMENT = f"{MARK}, made by trainer.generate of shardify"
PLAIN = re.compile(r"[^./\\\0-\x1f][^/\\\0-\x1f]*")  # what a folder can be called, so that builds find it
MOST_BYTES = 200  # of such a name, in UTF-8; a picture's has its seed and number besides, and file systems allow 255


@dataclass(frozen=True)
class Wanted:
    """One picture: the number of its class in the run, and its own among those of the class and the seed."""

    label: int
    number: int


class PictureFolder:
    """The folder that `trainer.generate` writes; what is there already, of the same making, stays.

    record: all that decides the pixels. Raises SettingsError where the folder holds pictures of another record, or
    something else.
    """

    def __init__(self, folder: Path, classes: Sequence[str], seed: int, record: Mapping[str, object]) -> None:
        self.folder, self._classes, self._names, self._seed = folder, classes, folder_names(classes), seed
        self._record = (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()
        self._check()
        write_atomically(folder / RECORD, self._record)

    def path(self, wanted: Wanted) -> Path:
        """CLASS/CLASS-sSEED-NUMBER.png."""
        name = self._names[wanted.label]
        return self.folder / name / f"{name}-s{self._seed}-{wanted.number:05d}.png"

    def write(self, wanted: Wanted, pixels: np.ndarray) -> None:
        """One picture, uint8 (S, S, 3), whole or not at all, with the mark."""
        from PIL import Image, PngImagePlugin

        texts, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
        texts.add_text(KEYWORD, COMMENT)
        Image.fromarray(pixels).save(buffer, "PNG", pnginfo=texts)
        write_atomically(self.path(wanted), buffer.getvalue())

    def finish(self) -> int:
        """Write the manifest of all pictures in the folder, in which all are for training; how many they are."""
        rows = []
        for label, name in enumerate(self._classes):
            folder = self.path(Wanted(label, 0)).parent
            for path in sorted(folder.glob(f"{glob.escape(folder.name)}-s{self._seed}-*.png")):
                where = path.relative_to(self.folder).as_posix()
                rows.append({"path": where, "class": name, "split": "train", "synthetic": "yes"})
        write_atomically(self.folder / MANIFEST, table_bytes(COLUMNS, rows))
        return len(rows)

    def _check(self) -> None:
        """Raises SettingsError; removes what a process that was killed has left half written."""
        names = list_names(self.folder) if self.folder.is_dir() else []
        others = [name for name in names if not name.endswith(".tmp")]
        if not others:
            return
        path = self.folder / RECORD
        if RECORD not in others:
            raise SettingsError(f"{self.folder} holds {others[0]}, but no {RECORD}; pass an empty or a new folder")
        if path.read_bytes() != self._record and any(self.folder.glob("*/*.png")):
            changed = ", ".join(_differences(path, self._record))
            raise SettingsError(
                f"{self.folder} holds pictures that were made with another {changed}; pass the same, or another --out"
            )
        for left in self.folder.rglob(".*.tmp"):
            left.unlink()


def folder_names(classes: Sequence[str]) -> list[str]:
    """The classes' own names where each can be a folder's; else class-0, class-1 and so on for all of them."""
    names = {name.casefold() for name in classes} - {MANIFEST, RECORD}
    can_be = len(names) == len(classes) and all(
        PLAIN.fullmatch(name) and len(name.encode()) <= MOST_BYTES for name in classes
    )
    return list(classes) if can_be else [f"class-{label}" for label in range(len(classes))]


def _differences(path: Path, record: bytes) -> list[str]:
    """Names of what differs in two records."""
    new = json.loads(record)
    try:
        old = json.loads(path.read_bytes())
        return [name for name in new | old if new.get(name) != old.get(name)]
    except (ValueError, TypeError):
        return [f"{path.name}, which is damaged"]
