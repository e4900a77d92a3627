"""The contract of a layout: a data set as it lies after its download, and what its names and lists mean."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from shardify.sources.layouts.split_list import SplitList

MAX_BYTES = 64 << 20  # of a file of metadata


@dataclass(frozen=True)
class Tree:
    """What lies below a data folder, by name alone."""

    data: Path
    videos: list[str]  # relative to `data`, `/` between folders, sorted
    metadata: list[str] = field(default_factory=list)  # files whose name is one of METADATA, sorted


@dataclass(frozen=True)
class Place:
    """What a layout says of one video."""

    class_name: str = ""
    split: str | None = None
    kind: str = ""
    original: str = ""  # the video that it was made from, where that is in the tree
    group: str | None = None
    error: str | None = None  # why it cannot be used


@dataclass(frozen=True)
class LeftOut:
    """A video that is no input of this data set."""

    reason: str  # in the plural, for people: "masks"


class Layout:
    """Base of all layouts, made for one tree. The docstring of each names its source."""

    name: str  # of --layout
    title: str  # for people
    expects: str  # what such a tree has, for the one who asked for it in vain
    grouping = ""  # what the groups follow from, where `Place.group` is used
    detail = ""  # what else the summary says of the tree
    is_official = False  # whether the splits of its places are the data set's own, not the user's

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.split_list: SplitList | None = None  # the official one, as given or found

    def certainty(self) -> float:
        """How sure it is that the tree is one of these, 0 to 1; the surest of all layouts is taken."""
        raise NotImplementedError

    def find_lists(self) -> SplitList | None:
        """The official split, where its lists lie in the folder or beside it."""
        return None

    def place(self, name: str) -> Place | LeftOut:
        """What one video of the tree is."""
        raise NotImplementedError

    def check(self) -> None:
        """Raises UsageError where the tree cannot be what it looks like."""

    def notes(self) -> list[str]:
        """What the user should know, after all were placed."""
        return []


def read_object(path: Path) -> dict:
    """A JSON object from a file of metadata; an empty one from anything else, which is then not believed."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return {}
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
