"""Celeb-DF, versions 1 and 2, and Celeb-DF++."""

from __future__ import annotations

import functools
import re

from shardify.sources.layouts.base import Layout, Place
from shardify.sources.layouts.names import KNOWN_NAMES, file_of, parts_of, split_folder, stem_of
from shardify.sources.layouts.split_list import SplitList, read_split_list

CLASSES = {"celeb-real": "real", "youtube-real": "real", "celeb-synthesis": "fake"}
TEST_LIST = "List_of_testing_videos.txt"


class CelebDF(Layout):
    """Celeb-DF: `Celeb-real`, `YouTube-real` and `Celeb-synthesis`, with a list of the videos to test on.

    Li et al., CVPR 2020; github.com/yuezunli/celeb-deepfakeforensics, README.md and Celeb-DF-v1/README.md. The list
    has lines such as `1 YouTube-real/00170.mp4`, where 1 is real: the folder tells the same. Celeb-DF++ has a folder
    for each method in `Celeb-synthesis`: github.com/OUC-VAS/Celeb-DF-PP, README.md.
    """

    name, title = "celebdf", "Celeb-DF"
    expects = "folders Celeb-real, YouTube-real or Celeb-synthesis"
    grouping = "the first person of Celeb-DF"

    def certainty(self) -> float:
        placed = sum(_place_of(name) is not None for name in self.tree.videos)
        return placed / max(1, len(self.tree.videos))

    def find_lists(self) -> SplitList | None:
        inside = [self.tree.data / name for name in self.tree.metadata if file_of(name) == TEST_LIST]
        for path in (*inside, self.tree.data.absolute().parent / TEST_LIST):
            if path.is_file():
                return read_split_list(path)
        return None

    def place(self, name: str) -> Place:
        at = _place_of(name)
        if at is None:
            return Place(error="lies in none of the folders of Celeb-DF; move it into one, or take it out")
        stem = stem_of(name)
        match = KNOWN_NAMES["Celeb-DF"].match(stem)
        below = [part for part in name.split("/")[at:-1] if part.lower() != "videos"]
        original = self._reals.get(stem.replace(f"_{match[2]}_", "_", 1), "") if match and match[2] else ""
        person = re.match(r"(id\d+)_", stem)
        return Place(CLASSES[below[0].lower()], split_folder(name), below[-1], original, person and person[1])

    @functools.cached_property
    def _reals(self) -> dict[str, str]:
        """Videos of Celeb-real by their stem: that of the fake `id0_id3_0001` is `id0_0001`."""
        return {stem_of(name): name for name in self.tree.videos if "celeb-real" in parts_of(name)}


def _place_of(name: str) -> int | None:
    """At which part of a name the folder of Celeb-DF stands."""
    return next((number for number, part in enumerate(parts_of(name)) if part in CLASSES), None)
