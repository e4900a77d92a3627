"""The Deepfake Detection Challenge: its parts, its labelled test set, and its preview."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

from shardify.errors import UsageError
from shardify.format.words import split_of
from shardify.sources.layouts.base import Layout, LeftOut, Place, Tree, read_object
from shardify.sources.layouts.names import file_of
from shardify.sources.source import unusable_name
from shardify.sources.table import read_table

LABELS = {"real": "real", "fake": "fake", "0": "real", "1": "fake"}


class _Labelled(Layout):
    """Videos whose labels stand in files of metadata."""

    lists: str  # the names of these files, for people
    is_official = True

    def certainty(self) -> float:
        return _share(self._entry(name) for name in self.tree.videos)

    def place(self, name: str) -> Place | LeftOut:
        entry = self._entry(name)
        if entry is None:
            return Place(error=f"has no label in {self.lists}; take it out")
        return self._place(name, entry)

    @property
    def expects(self) -> str:
        return f"{self.lists} with the labels of most of its videos"

    def _entry(self, name: str) -> dict | None:
        """What the lists say of a video, its label among it; None where they have none."""
        raise NotImplementedError

    def _place(self, name: str, entry: dict) -> Place:
        raise NotImplementedError


class DFDC(_Labelled):
    """DFDC: folders of videos with a `metadata.json` that says REAL or FAKE, and from which original a fake was made.

    Dolhansky et al., arXiv:2006.07397; kaggle.com/c/deepfake-detection-challenge/data (label, split, original). The
    test set has a `labels.csv` instead, with filename and label, 1 for fake: github.com/SCLBD/DeepfakeBench,
    preprocessing/rearrange.py. Where it is there, it is the test split.
    """

    name, title = "dfdc", "DFDC"
    lists = "metadata.json or labels.csv"

    def _place(self, name: str, entry: dict) -> Place:
        original = entry.get("original")
        original = self._by_name.get(original, "") if isinstance(original, str) else ""
        # the parts are all of train; what is held out of them is drawn
        return Place(LABELS[_label(entry)], split=entry.get("split_here"), original=original)

    def _entry(self, name: str) -> dict | None:
        """By the lists of its folder, or of the nearest above it."""
        folder, file = name, file_of(name)
        while folder and self._lists:
            folder = folder.rpartition("/")[0]
            entry = self._lists.get(folder, {}).get(file)
            if isinstance(entry, dict) and _label(entry) in LABELS:
                return entry
        return None

    @functools.cached_property
    def _lists(self) -> dict[str, dict]:
        """Folder → its lists' entries by file name."""
        found: dict[str, dict] = {}
        for name in self.tree.metadata:
            path, folder = self.tree.data.absolute() / name, name.rpartition("/")[0]
            if path.name == "metadata.json":
                found.setdefault(folder, {}).update(read_object(path))
            elif path.name == "labels.csv" and path.parent.name.lower() == "test":
                found.setdefault(folder, {}).update(_test_labels(path))
        return found

    @functools.cached_property
    def _by_name(self) -> dict[str, str]:
        return {file_of(name): name for name in self.tree.videos}


class DFDCPreview(_Labelled):
    """DFDC's preview: `original_videos`, `method_A` and `method_B`, with a `dataset.json` that says label and split.

    Dolhansky et al., arXiv:1910.08854; github.com/SCLBD/DeepfakeBench, preprocessing/rearrange.py (label, set).
    """

    name, title = "dfdcpreview", "DFDC preview"
    lists = "dataset.json"
    grouping = "the target actor of DFDC's preview"

    def _place(self, name: str, entry: dict) -> Place:
        class_name, actor = LABELS[_label(entry)], entry.get("target_id")
        kind = next((part for part in name.split("/") if part.startswith("method_")), "")
        group = f"actor {actor}" if isinstance(actor, str | int) else None
        split = entry.get("set")
        return Place(class_name, split_of(split) if isinstance(split, str) else None, kind, group=group)

    def _entry(self, name: str) -> dict | None:
        for path, entries in self._lists.items():
            entry = entries.get(name.removeprefix(path))
            if isinstance(entry, dict) and _label(entry) in LABELS:
                return entry
        return None

    @functools.cached_property
    def _lists(self) -> dict[str, dict]:
        """What stands before the names in a dataset.json: its entries."""
        paths = [name for name in self.tree.metadata if file_of(name) == "dataset.json"]
        return {name.removesuffix("dataset.json"): read_object(self.tree.data / name) for name in paths}


def originals_in(tree: Tree) -> dict[str, str]:
    """fake → original by file name, from all metadata.json of the DFDC data set; nothing from any other."""
    found = {}
    for name in tree.metadata:
        if file_of(name) == "metadata.json":
            for fake, entry in read_object(tree.data / name).items():
                original = entry.get("original") if isinstance(entry, dict) else None
                if isinstance(original, str) and original and not unusable_name(original):
                    found[fake] = original
    return found


def _share(entries: Iterable[dict | None]) -> float:
    """How many of the videos have an entry; too little to be believed unasked where it is not most of them."""
    known = [entry is not None for entry in entries]
    share = sum(known) / max(1, len(known))
    return share if share > 0.5 else share / 10


def _label(entry: dict) -> str:
    label = entry.get("label")
    return label.lower() if isinstance(label, str) else ""


def _test_labels(path: Path) -> dict[str, dict]:
    """Entries from a labels.csv; none from any other than the test set's."""
    try:
        rows, columns = read_table(path)
    except UsageError:
        return {}
    if not {"filename", "label"} <= set(columns):
        return {}
    return {row["filename"]: {"label": row["label"], "split_here": "test"} for row in rows if row["filename"]}
