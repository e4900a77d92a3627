"""FaceForensics++ and DeepFakeDetection, which its download script puts into the same tree."""

from __future__ import annotations

import functools

from shardify.errors import UsageError
from shardify.sources.layouts.base import Layout, LeftOut, Place
from shardify.sources.layouts.names import COMPRESSIONS, KINDS, KNOWN_NAMES, parts_of, split_folder, stem_of
from shardify.sources.layouts.split_list import SplitList, read_split_list

PAIRS, ACTORS = KNOWN_NAMES["FaceForensics++"], KNOWN_NAMES["DeepFakeDetection"]
SEQUENCES = {"original_sequences": "real", "manipulated_sequences": "fake"}
KIND_NAMES = {kind.lower(): kind for kind in KINDS}
FOLDERS = SEQUENCES.keys() | {"actors", "deepfakedetection"}
MASKS, DOWNLOADS = {"masks", "mask"}, {"downloaded_videos"}
SPLIT_FILES = ("train.json", "val.json", "test.json")


class _Sequences(Layout):
    """What both have in common: folders, masks, compressions, and the name of a fake's original."""

    pattern = PAIRS

    @functools.cached_property
    def detail(self) -> str:
        found = {_compression(name) for name in self.tree.videos if self.pattern.match(stem_of(name))}
        return f" ({', '.join(one for one in COMPRESSIONS if one in found)})" if found - {""} else ""

    @functools.cached_property
    def _reals(self) -> dict[tuple[str, str], str]:
        """Video by its stem, without what copies add, and its compression."""
        matches = [(name, self.pattern.match(stem_of(name))) for name in self.tree.videos]
        return {
            (self._base(name), _compression(name)): name
            for name, match in matches
            if match and not match[2] and self._class_of(name) == "real" and not MASKS.intersection(parts_of(name))
        }

    def _base(self, name: str) -> str:
        """The stem of a fake's target, which is its own in a real video."""
        raise NotImplementedError

    def _class_of(self, name: str) -> str:
        """real or fake, by the folder; where no folder says so, by the one or two people in the file's name."""
        for part in parts_of(name):
            if part in SEQUENCES or part in KIND_NAMES:
                return SEQUENCES.get(part, "fake")
        return "fake" if self.pattern.match(stem_of(name))[2] else "real"

    def _place(self, name: str, kind: str, group: str | None = None) -> Place:
        class_name = self._class_of(name)
        if class_name == "real":
            return Place("real", split_folder(name), group=group)
        original = self._reals.get((self._base(name), _compression(name)), "")  # both name a fake TARGET_SOURCE
        return Place("fake", split_folder(name), kind, original, group)


class FaceForensics(_Sequences):
    """FaceForensics++: `original_sequences/youtube/…/000.mp4`, `manipulated_sequences/Deepfakes/…/000_003.mp4`.

    Also copies with other folders, whose file names tell: `000.mp4` is real, `000_003_c23.mp4` fake. Rössler et al.,
    ICCV 2019; github.com/ondyari/FaceForensics, dataset/README.md (folders and names) and dataset/splits (lists).
    """

    name, title = "faceforensics", "FaceForensics++"
    grouping = "the first actor of DeepFakeDetection"  # its videos have a group each
    expects = "original_sequences or manipulated_sequences, and no names such as 000.mp4 and 000_003.mp4"

    def certainty(self) -> float:
        videos = [name for name in self.tree.videos if not MASKS.intersection(parts_of(name))]
        fitting = [match for name in videos if (match := PAIRS.match(stem_of(name)))]
        if any(SEQUENCES.keys() & set(parts_of(name)) for name in videos):
            return 1.0 if fitting else 0.0
        by_kind = {KIND_NAMES[part] for name in videos for part in parts_of(name) if part in KIND_NAMES}
        # class folders are left to `folders`, which knows the names, too
        tells = len({bool(match[2]) for match in fitting}) == 2 and (by_kind or _is_flat(videos))
        share = len(fitting) / max(1, len(videos))
        return 0.9 * share if tells and share > 0.5 else share / 20

    def find_lists(self) -> SplitList | None:
        data = self.tree.data
        inside = {data / name for name in self.tree.metadata}
        folders = {path.parent for path in inside}
        beside = [data.absolute().parent, data.absolute().parent / "splits"]
        for folder in (*sorted(folders), *beside):
            if all((folder / name).is_file() for name in SPLIT_FILES):
                try:
                    return read_split_list(folder / SPLIT_FILES[0])
                except UsageError:  # of something else, which has the same names
                    continue
        return None

    def place(self, name: str) -> Place | LeftOut:
        folders, stem = parts_of(name), stem_of(name)
        if MASKS.intersection(folders):
            return LeftOut("masks")
        if DOWNLOADS.intersection(folders):
            return LeftOut("downloaded originals")
        if ACTORS.match(stem):
            if self.split_list:
                return LeftOut("videos of DeepFakeDetection (--layout deepfakedetection)")
            return DeepFakeDetection(self.tree).place(name)
        match = PAIRS.match(stem)
        if not match:
            return Place(error="has no name of FaceForensics++, such as 000.mp4 or 000_003.mp4; take it out")
        words = [KIND_NAMES[word] for word in (*folders, *stem.lower().split("_")) if word in KIND_NAMES]
        return self._place(name, words[0] if words else "")

    def _base(self, name: str) -> str:
        return PAIRS.match(stem_of(name))[1]


class DeepFakeDetection(_Sequences):
    """DeepFakeDetection: `original_sequences/actors/…/01__exit.mp4`, `…/DeepFakeDetection/…/01_02__exit__ID.mp4`.

    Dufour and Gully, 2019; github.com/ondyari/FaceForensics, dataset/README.md. There is no official split. Nearly all
    actors are connected through fakes, so only a clip's first one is kept together.
    """

    name, title = "deepfakedetection", "DeepFakeDetection"
    expects = "names such as 01__exit.mp4 and 01_02__exit__ABCDEFGH.mp4"
    grouping = "the first actor of DeepFakeDetection"
    pattern = ACTORS

    def certainty(self) -> float:
        fitting = [name for name in self.tree.videos if ACTORS.match(stem_of(name))]
        share = len(fitting) / max(1, len(self.tree.videos))
        tells = _is_flat(fitting) or any(FOLDERS.intersection(parts_of(name)) for name in fitting)
        return 0.8 * share if tells else share / 20

    def place(self, name: str) -> Place | LeftOut:
        stem = stem_of(name)
        match = ACTORS.match(stem)
        if MASKS.intersection(parts_of(name)):
            return LeftOut("masks")
        if not match:
            return LeftOut("videos of other data sets")
        return self._place(name, "DeepFakeDetection", f"actor {match[1]}")

    def _base(self, name: str) -> str:
        people, _, rest = stem_of(name).partition("__")
        return f"{people[:2]}__{rest.partition('__')[0]}"


def _is_flat(names: list[str]) -> bool:
    return len({name.rpartition("/")[0] for name in names}) == 1


def _compression(name: str) -> str:
    """The compression of a video, by its folders, else by the end of its name; empty where neither says it."""
    words = "_".join((*parts_of(name), stem_of(name).lower())).split("_")
    return next((word for word in words if word in COMPRESSIONS), "")
