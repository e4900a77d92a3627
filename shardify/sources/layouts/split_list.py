"""The official split of a data set, from the lists that its authors give: JSON, text or CSV."""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shardify.errors import UsageError
from shardify.format.words import split_of
from shardify.sources.layouts.names import KNOWN_NAMES, listing, stem_of
from shardify.sources.table import read_table
from shardify.text import CONTROLS

MAX_BYTES = 256 << 20  # of one list
SPLIT_WORD = re.compile(r"training|train|validation|validate|valid|val|dev|testing|test|eval", re.IGNORECASE)
NUMBERED = re.compile(r".*(_test_split\d+\.txt)")  # HMDB51 has such a file for each class
PATHS = ("path", "filename", "file", "video", "video_path", "name")
HMDB51_TAGS = {"0": None, "1": "train", "2": "test"}


@dataclass(frozen=True)
class Listed:
    """What a list says of one video."""

    split: str | None  # None: the video is not used
    class_name: str | None = None  # None: the folder's


@dataclass
class SplitList:
    """Videos by name and their splits.

    Names match where one is the end of the other, whatever their endings; folders called `videos` do not count.
    """

    files: list[Path]
    known_form: bool = False  # of a data set, so that these are its official lists
    _entries: dict[str, dict[tuple[str, ...], Listed]] = field(default_factory=lambda: defaultdict(dict))
    _found: set[tuple[str, ...]] = field(default_factory=set)

    def add(self, name: str, listed: Listed) -> None:
        """Raises UsageError where the name is listed already, in another split or class."""
        *folders, stem = _parts(name)
        if self._entries[stem].setdefault(tuple(folders), listed) != listed:
            raise UsageError(f"{self.files[0]}: {name} is listed twice, in two splits or classes; remove one")

    def find(self, name: str) -> Listed | None:
        """What the list says of a video; None where it has none or several of its name."""
        *folders, stem = _parts(name)
        pair = KNOWN_NAMES["FaceForensics++"].match(stem)
        if pair and stem not in self._entries:  # 000_003_c23
            stem = "_".join(filter(None, pair.groups()))
        found = {at: entry for at, entry in self._entries.get(stem, {}).items() if _is_end(at, tuple(folders))}
        self._found.update((*at, stem) for at in found)
        return next(iter(found.values())) if len(set(found.values())) == 1 else None

    @property
    def counts(self) -> tuple[int, int]:
        """How many of its videos were found by now, and how many it has."""
        return len(self._found), sum(map(len, self._entries.values()))

    @functools.cached_property
    def splits(self) -> frozenset[str]:
        """The splits that it has videos of; what is in no list is left out if train is among them."""
        return frozenset(one.split for entries in self._entries.values() for one in entries.values() if one.split)

    @functools.cached_property
    def names_classes(self) -> bool:
        """Whether it says the classes, too."""
        return any(one.class_name for entries in self._entries.values() for one in entries.values())

    @property
    def file_names(self) -> str:
        shown = sorted({path.name for path in self.files})
        return listing(shown) if len(shown) <= 3 else f"{shown[0]} and {len(shown) - 1} others"


def read_split_list(path: Path) -> SplitList:
    """The list in a file, and those beside it whose names differ in the word for the split alone.

    Known are FaceForensics++'s JSON of pairs, Celeb-DF's `List_of_testing_videos.txt`, UCF101's `trainlist01.txt`,
    HMDB51's `*_test_split1.txt` (for these and UCF101 as torchvision.datasets reads them), Something-Something's JSON
    and Kinetics' CSV; else text with a path on each line, and CSV with a column for the path. Raises UsageError.
    """
    found = SplitList(_siblings(path))
    for file in found.files:
        for name, listed in _read(file, found):
            found.add(name, listed)
    if not found.splits:
        raise UsageError(f"{path}: lists no video for train, val or test")
    return found


def _siblings(path: Path) -> list[Path]:
    """The file, and those beside it that belong to the same set of lists, sorted."""
    numbered = NUMBERED.fullmatch(path.name)
    if numbered:
        return sorted(path.parent.glob(f"*{numbered[1]}"))
    pattern = SPLIT_WORD.sub("*", path.name)
    beside = sorted(path.parent.iterdir()) if pattern != path.name else []
    return [other for other in beside if other != path and SPLIT_WORD.sub("*", other.name) == pattern] + [path]


def _read(path: Path, found: SplitList) -> Iterator[tuple[str, Listed]]:
    try:
        if not path.is_file():
            raise UsageError(f"{path}: is not a regular file; pass a list of videos")
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path}: is larger than {MAX_BYTES >> 20} MiB, too large for a list of videos")
        if path.suffix.lower() == ".csv":
            return _from_csv(path, found)
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            return _from_json(path, json.loads(text), found)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as a list of videos ({' '.join(str(error).split())})") from error
    return _from_text(path, text, found)


def _from_json(path: Path, values: object, found: SplitList) -> Iterator[tuple[str, Listed]]:
    split = _split_in(path)
    if isinstance(values, list) and values:
        if all(isinstance(pair, list) and len(pair) == 2 and all(map(_is_id, pair)) for pair in values):
            found.known_form = True
            for one, other in values:
                for name in (one, other, f"{one}_{other}", f"{other}_{one}"):
                    yield name, Listed(split)
            return
        if all(isinstance(entry, dict) and _is_id(entry.get("id")) for entry in values):
            found.known_form = True
            for entry in values:
                label = entry.get("template") or entry.get("label")
                yield entry["id"], Listed(split if isinstance(label, str) else None, _template(label))
            return
        if all(map(_is_id, values)):
            yield from ((name, Listed(split)) for name in values)
            return
    raise UsageError(f"{path}: is no list that is known here: pairs, names, or objects with id and template")


def _from_text(path: Path, text: str, found: SplitList) -> Iterator[tuple[str, Listed]]:
    is_hmdb51 = NUMBERED.fullmatch(path.name) is not None
    split = None if is_hmdb51 else _split_in(path)
    found.known_form |= is_hmdb51 or re.fullmatch(r"(train|test)list\d\d\.txt", path.name) is not None
    found.known_form |= path.name == "List_of_testing_videos.txt"
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, after = _without_numbers(line.strip())
        if CONTROLS.search(name):
            raise UsageError(f"{path} line {number}: is no path of a video")
        if is_hmdb51 and after not in HMDB51_TAGS:
            raise UsageError(f"{path} line {number}: ends with {after}; it must be 0 (unused), 1 (train) or 2 (test)")
        yield name, Listed(HMDB51_TAGS[after] if is_hmdb51 else split)


def _without_numbers(line: str) -> tuple[str, str]:
    """The path in a line, and the number behind it (UCF101, HMDB51); Celeb-DF's, before it, says 1 for real."""
    before, _, rest = line.partition(" ")
    name = rest.strip() if before in ("0", "1") and rest else line
    path, _, after = name.rpartition(" ")
    return (path.strip(), after) if path and after.isdecimal() else (name, "")


def _from_csv(path: Path, found: SplitList) -> Iterator[tuple[str, Listed]]:
    rows, columns = read_table(path)
    column = next((name for name in PATHS if name in columns), None)
    is_kinetics = {"youtube_id", "time_start", "time_end"} <= set(columns)
    if not (column or is_kinetics):
        raise UsageError(f"{path}: has no column {', '.join(PATHS)} or youtube_id")
    found.known_form |= is_kinetics
    split = None if "split" in columns else _split_in(path)
    for number, row in enumerate(rows, 2):
        if any(value is None for value in row.values()):
            raise UsageError(f"{path} row {number}: has too few columns")
        if split is None and row["split"] and not split_of(row["split"]):
            raise UsageError(f"{path} row {number}: split is {row['split']}; it must be train, val, test or empty")
        listed = Listed(split or split_of(row["split"]), row.get("class") or row.get("label") or None)
        yield row[column] if column else _kinetics_name(row, f"{path} row {number}"), listed


def _kinetics_name(row: dict, where: str) -> str:
    """As the official scripts name a clip: `ID_000059_000069`."""
    try:
        return f"{row['youtube_id']}_{int(float(row['time_start'])):06d}_{int(float(row['time_end'])):06d}"
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{where}: time_start and time_end must be seconds") from error


def _template(label: object) -> str | None:
    """Putting [something] on a surface: the class without its brackets, as in something-something-v2-labels.json."""
    return label.replace("[", "").replace("]", "") if isinstance(label, str) else None


def _split_in(path: Path) -> str:
    """The split that a list's name says."""
    words = {split_of(word) for word in SPLIT_WORD.findall(path.stem)}
    if len(words) != 1:
        raise UsageError(f"{path}: its name says no split; give it one with train, val or test in it")
    return words.pop()


def _is_id(value: object) -> bool:
    return isinstance(value, str) and bool(value) and not CONTROLS.search(value)


def _parts(name: str) -> tuple[str, ...]:
    """Folders and the stem of a name, composed (NFC)."""
    composed = unicodedata.normalize("NFC", name.replace("\\", "/"))
    return (*(part for part in composed.split("/")[:-1] if part not in ("", ".", "videos")), stem_of(composed))


def _is_end(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether the shorter of two paths of folders is the end of the longer."""
    count = min(len(one), len(other))
    return one[len(one) - count :] == other[len(other) - count :]
