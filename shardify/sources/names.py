"""Matching of names in tables with files that spell them in another Unicode form: macOS stores accents apart (NFD)."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePosixPath


class NamesOnDisk:
    """The names that files below a folder have, for those that a table gives; `table` says which, for people."""

    def __init__(self, folder: Path, table: str) -> None:
        self._folder = folder
        self._table = table
        self._listed: dict[Path, dict[str, str]] = {}  # names in a folder by their composed form (NFC)
        self._matched: list[str] = []

    def match(self, name: str) -> str:
        """The file's own name, where only the form differs; else the name as it is."""
        if name.isascii() or name.startswith("/") or os.path.lexists(self._folder / name):
            return name
        path = self._folder
        for part in PurePosixPath(name).parts:
            path /= part if os.path.lexists(path / part) else self._spelled(path).get(_composed(part), part)
        if not os.path.lexists(path):
            return name
        self._matched.append(name)
        return path.relative_to(self._folder).as_posix()

    def notes(self) -> list[str]:
        if not self._matched:
            return []
        count, first = len(self._matched), self._matched[0]
        return [
            f"matched {count} names that the {self._table} spells in another Unicode form (NFC or NFD); first: {first}"
        ]

    def _spelled(self, folder: Path) -> dict[str, str]:
        if folder not in self._listed:
            names = sorted(os.listdir(folder)) if folder.is_dir() else []
            self._listed[folder] = {_composed(name): name for name in names}
        return self._listed[folder]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
