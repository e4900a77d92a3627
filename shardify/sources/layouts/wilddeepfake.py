"""WildDeepfake, which holds pictures of faces."""

from __future__ import annotations

import re

from shardify.sources.layouts.base import Layout, Place
from shardify.sources.layouts.names import file_of

PICTURE = re.compile(r"\d+\.png", re.IGNORECASE)  # the number of the frame in the video
PARTS = re.compile(r"(real|fake)[ _](train|test)", re.IGNORECASE)


class WildDeepfake(Layout):
    """WildDeepfake, unpacked: `real_train/1/real/131/942.png`, and the same in fake_train, real_test and fake_test.

    Zi et al., ACM Multimedia 2020; github.com/OpenTAI/wild-deepfake, README.md (File Structure), and
    huggingface.co/datasets/xingjunm/WildDeepfake (the paths in its archives). A folder of pictures is a sequence of one
    face, several come in an archive; whether these show the same people is not stated, so archives are not torn.
    """

    name, title = "wilddeepfake", "WildDeepfake"
    expects = "pictures such as 942.png in real_train, fake_train, real_test or fake_test"
    grouping = "the archives of WildDeepfake"
    is_official = True

    def certainty(self) -> float:
        parts = [_part(name) for name in self.tree.videos if PICTURE.fullmatch(file_of(name))]
        return sum(part is not None for part in parts) / max(1, len(self.tree.videos))

    def place(self, name: str) -> Place:
        part = _part(name)
        if part is None:
            return Place(error="lies in none of the folders of WildDeepfake; move it into one, or take it out")
        at, match = part
        below = name.split("/")[at + 1 : -1]
        split = match[2].lower()
        return Place(match[1].lower(), split, group=f"{split} {below[0]}" if below else None)


def _part(name: str) -> tuple[int, re.Match] | None:
    """The first folder of that kind, and at which part of the name it stands."""
    matches = map(PARTS.fullmatch, name.split("/")[:-1])
    return next(((at, match) for at, match in enumerate(matches) if match), None)
