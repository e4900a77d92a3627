"""FakeAVCeleb, whose pictures, sound or both are fake."""

from __future__ import annotations

import functools

from shardify.sources.layouts.base import Layout, LeftOut, Place
from shardify.sources.layouts.names import parts_of, split_folder, stem_of

TYPES = {
    "realvideo-realaudio": "real",
    "fakevideo-realaudio": "fake",
    "fakevideo-fakeaudio": "fake",
    "realvideo-fakeaudio": "",  # its pictures are real, and those of RealVideo-RealAudio once more
}


class FakeAVCeleb(Layout):
    """FakeAVCeleb: `FakeVideo-RealAudio/African/men/id00076/00109_id00166_wavtolip.mp4` and three other types.

    Khalid et al., arXiv:2108.05080. The authors' repository does not state the layout; the loaders of others agree on
    it (type, race, gender, the person who is shown), one of them github.com/piotrkawa/deepfake-whisper-features,
    src/datasets/fakeavceleb_dataset.py. A fake's name begins as its original's and goes on with whose face it has.
    """

    name, title = "fakeavceleb", "FakeAVCeleb"
    expects = "folders RealVideo-RealAudio, FakeVideo-RealAudio or FakeVideo-FakeAudio"
    grouping = "the person of FakeAVCeleb who is shown"

    def certainty(self) -> float:
        return sum(_type_at(name) is not None for name in self.tree.videos) / max(1, len(self.tree.videos))

    def place(self, name: str) -> Place | LeftOut:
        at = _type_at(name)
        if at is None:
            return Place(error="lies in none of the folders of FakeAVCeleb; move it into one, or take it out")
        folders = name.split("/")
        class_name, person = TYPES[folders[at].lower()], folders[-2]
        if not class_name:
            return LeftOut("videos whose sound alone is fake")
        original = self._reals.get((person, stem_of(name).partition("_")[0]), "") if class_name == "fake" else ""
        return Place(class_name, split_folder(name), folders[at], original, person if at < len(folders) - 2 else None)

    @functools.cached_property
    def _reals(self) -> dict[tuple[str, str], str]:
        """Real videos by the person's folder and the number that fakes of it begin with."""
        reals = [name for name in self.tree.videos if "realvideo-realaudio" in parts_of(name)]
        return {(name.split("/")[-2], stem_of(name)): name for name in reals}


def _type_at(name: str) -> int | None:
    """At which part of a name the folder of the type stands."""
    return next((number for number, part in enumerate(parts_of(name)) if part in TYPES), None)
