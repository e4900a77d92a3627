"""File names and folder names that say who is in a clip, what it is, and which split it belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from shardify.format.words import SPLIT_WORDS, meaning_of, split_of

KINDS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")  # of FaceForensics++
COMPRESSIONS = ("raw", "c0", "c23", "c40")
_ADDED = "|".join((*KINDS, *COMPRESSIONS, "original"))

# Public data sets whose file names say who or what is in a clip: one identity, or two in a fake.
KNOWN_NAMES = {
    "FaceForensics++": re.compile(rf"^(\d{{3}})(?:_(\d{{3}}))?(?:_(?:{_ADDED}))*$", re.IGNORECASE),
    "Celeb-DF": re.compile(r"^(id\d+)(?:_(id\d+))?_\d{4}$"),
    "DeepFakeDetection": re.compile(r"^(\d\d)(?:_(\d\d))?__"),
    "UCF101": re.compile(r"^v_(\w+_g\d\d)_c\d\d$"),
}
UNMISTAKABLE = {"UCF101"}  # the others are believed only where a name has two identities

_SPLIT = re.compile(  # single steps: no name can make it slow
    rf"({'|'.join(SPLIT_WORDS)})([ _-]|\d|(set|data|sample|video|clip|image|frame|face|split|list|file)s?)*",
    re.IGNORECASE,
)
_PART = re.compile(r"(.*[^a-z])?(part|chunk|batch|fold|split|shard|volume|vol|disc|disk)[ _-]*\d+", re.IGNORECASE)


# Of the parts of a name below the data folder; pathlib would take minutes for a million of them.
def file_of(name: str) -> str:
    """The file's name in a path."""
    return name.rpartition("/")[2]


def stem_of(name: str) -> str:
    """The file's name in a path, without its ending."""
    file = file_of(name)
    return file.rpartition(".")[0] or file


def parts_of(name: str) -> list[str]:
    """The folders in a path, in lower case."""
    return name.lower().split("/")[:-1]


def identities(name: str) -> list[tuple[str, list[str]]]:
    """(data set, identities) for every naming scheme that fits a video's file name."""
    stem = stem_of(name)
    matches = [(data_set, pattern.match(stem)) for data_set, pattern in KNOWN_NAMES.items()]
    return [(data_set, [one for one in match.groups() if one]) for data_set, match in matches if match]


def split_folder(name: str) -> str | None:
    """The split whose folder a video lies in: the first one of `train/CLASS/…`."""
    top, *below = name.split("/")
    return split_of(top) if len(below) >= 2 else None


def is_no_class(name: str) -> str | None:
    """What a folder's name looks like instead of a class: a split (`test_videos`, `fake test`), or a part of a set."""
    kind, *rest = re.split(r"[ _-]+", name, maxsplit=1)
    if _SPLIT.fullmatch(name) or (rest and meaning_of(kind) and _SPLIT.fullmatch(rest[0])):
        return "a split"
    return "a part of a data set" if _PART.fullmatch(name) else None


def one_spelling(counts: Mapping[str, int]) -> tuple[dict[str, str], list[str]]:
    """Class → the spelling that most videos have, for classes that differ in case alone; and lines that say so.

    counts: class → videos.
    """
    most = {name.lower(): name for name in sorted(counts, key=lambda name: (counts[name], name))}
    notes = []
    for name, spelling in most.items():
        found = sorted(other for other in counts if other.lower() == name)
        if len(found) > 1:
            notes.append(f"{listing(found)} are one class: {spelling}")
    return {name: most[name.lower()] for name in counts}, notes


def listing(words: Sequence[str]) -> str:
    """a, b and c"""
    words = list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
