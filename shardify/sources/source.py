"""A source is one input of a build: where it lies, what it shows, and where it goes."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Source:
    """One input: a directory entry that looks like a video, or a row of the manifest."""

    path: Path
    source: str  # path relative to the data folder, `/` between folders; its identity
    class_name: str
    split: str | None  # as laid out or listed; None: to be assigned
    group: str | None = None
    target: float | None = None
    error: str | None = None  # why it cannot be used, where its place or name says so already
    kind: str = ""  # what made it; empty where that is unknown
    original: str = ""  # the source that a fake was made from

    @property
    def key(self) -> str:
        """A readable stem and 64 bits of a hash of the path: `[A-Za-z0-9_-]+`, never a dot."""
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", PurePosixPath(self.source).stem)[:48].lstrip("-") or "clip"
        return f"{stem}-{hashlib.sha256(os.fsencode(self.source)).hexdigest()[:16]}"


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
