"""A source is one input of a build: where it lies, what it shows, and where it goes."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from shardify.video.piece import Piece, split_piece


class SoundFile(NamedTuple):
    """A file that holds the sound of a video. name: its path relative to the data folder, its identity."""

    path: Path
    name: str
    offset: float  # seconds from the video's first frame to the sound's beginning


@dataclass(frozen=True)
class Source:
    """One input: a directory entry that looks like a video, or a row of the manifest."""

    path: Path
    source: str  # path relative to the data folder, `/` between folders, and the piece of the video; its identity
    class_name: str  # of the primary head
    split: str | None  # as laid out or listed; None: to be assigned
    group: str | None = None
    target: float | None = None
    error: str | None = None  # why it cannot be used, where its place or name says so already
    kind: str = ""  # what made it; empty where that is unknown
    original: str = ""  # the source that a fake was made from
    sound: SoundFile | None = None  # beside the video; None: the video's own
    labels: dict[str, str] = field(default_factory=dict)  # its classes by further head; one that is missing is unknown
    is_synthetic: bool = False  # made by a model, so for training alone

    @property
    def key(self) -> str:
        """A readable stem and 64 bits of a hash of `source`: `[A-Za-z0-9_-]+`, never a dot."""
        return _key(self.video, self.source)

    @property
    def video(self) -> str:
        """The path of its file, relative to the data folder."""
        return split_piece(self.source)[0]

    @property
    def piece(self) -> Piece | None:
        """The part of the video that it is; None: all of it."""
        return split_piece(self.source)[1]

    @property
    def own_group(self) -> str:
        """The name of the group where it has none: the same for all pieces of a video."""
        return _key(self.video, self.video)


def _key(video: str, source: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", PurePosixPath(video).stem)[:48].lstrip("-") or "clip"
    return f"{stem}-{hashlib.sha256(os.fsencode(source)).hexdigest()[:16]}"


def unusable_name(name: str) -> str | None:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    return None


def printable(name: str) -> str:
    """The name itself; where it is not UTF-8, one that can be written, with a hash that keeps it apart from others."""
    if unusable_name(name) is None:
        return name
    raw = os.fsencode(name)
    return f"{raw.decode('utf-8', 'backslashreplace')} ({hashlib.sha256(raw).hexdigest()[:8]})"
