"""Data sets as they lie after their download: one small class each, and the choice among them."""

from __future__ import annotations

from shardify.errors import UsageError
from shardify.sources.layouts.base import MAX_BYTES, Layout, LeftOut, Place, Tree
from shardify.sources.layouts.celebdf import CelebDF
from shardify.sources.layouts.dfdc import DFDC, DFDCPreview
from shardify.sources.layouts.faceforensics import DeepFakeDetection, FaceForensics
from shardify.sources.layouts.fakeavceleb import FakeAVCeleb
from shardify.sources.layouts.folders import Folders
from shardify.sources.layouts.wilddeepfake import WildDeepfake

AUTO = "auto"
ALL = (FaceForensics, DeepFakeDetection, DFDC, DFDCPreview, CelebDF, FakeAVCeleb, WildDeepfake, Folders)
LAYOUTS = {layout.name: layout for layout in ALL}
METADATA = frozenset(
    {"metadata.json", "labels.csv", "dataset.json", "List_of_testing_videos.txt", "train.json", "val.json", "test.json"}
)

__all__ = ["AUTO", "LAYOUTS", "MAX_BYTES", "METADATA", "Layout", "LeftOut", "Place", "Tree", "choose_layout"]


def choose_layout(tree: Tree, name: str = AUTO) -> Layout:
    """The layout of that name, or of all the one that is surest of the tree; earlier ones where they are equally sure.

    Raises UsageError where the tree has nothing of what the named one expects.
    """
    if name == AUTO:
        return max((kind(tree) for kind in LAYOUTS.values()), key=lambda layout: layout.certainty())
    if name not in LAYOUTS:
        raise UsageError(f"--layout is {name}; it must be {' | '.join((AUTO, *LAYOUTS))}")
    layout = LAYOUTS[name](tree)
    if not layout.certainty():
        raise UsageError(f"{tree.data}: is not laid out as {layout.title} is: it has no {layout.expects}")
    return layout
