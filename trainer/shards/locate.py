"""The search for shards by what a user calls them: a path, a glob, a brace pattern, a Kaggle data set."""

from __future__ import annotations

import glob
import os
import re
from itertools import islice
from pathlib import Path

from shardify.format.words import SPLIT_WORDS
from shardify.storage.address import Address, place_of
from trainer.errors import FormatError

KAGGLE_INPUT = Path("/kaggle/input")
PAGE = re.compile(r"https?:/+(?:www\.)?kaggle\.com/datasets/([\w-]+/[\w-]+)")
DATA_SET = re.compile(r"([\w-]+/)?[\w-]+")  # owner/slug, or slug
BRACES = re.compile(r"\{([^{}]*)\}")
MAX_NAMES = 100_000  # that a brace pattern may stand for
COMPRESSED = re.compile(r"\.(?:tgz|tbz2?|txz|tar\.(?:gz|bz2|xz|zst|lz4|z))$", re.IGNORECASE)
HIDDEN = (".", "__MACOSX")


def find_shards(name: str | Path, kaggle_input: Path = KAGGLE_INPUT) -> tuple[Path | Address, list[Path] | None]:
    """The folder of shards, and which of its tars are meant, None for the whole of an indexed folder.

    An address in object storage is not looked up. Raises FormatError, which says where it has looked, UsageError.
    """
    if page := PAGE.match(str(name)):
        name = page[1]
    path = place_of(name)
    if isinstance(path, Address):
        if path.suffix == ".tar" or set("*[{") & set(str(path)):
            raise FormatError(f"{path}: in object storage whole folders are opened; name the one with index.json")
        return path, None
    if path.is_dir():
        return _inside(path)
    if path.is_file():
        _check_plain(path)
        return path.parent, [path]
    if set("*?[{") & set(str(name)):
        return _pattern(str(name))
    looked = [path]
    if DATA_SET.fullmatch(str(name)):
        path = Path(str(name).lower())  # as Kaggle spells all names
    if DATA_SET.fullmatch(str(name)) or path.is_relative_to(kaggle_input):  # a path may be of the other layout
        owner = "*" if path.parent in (kaggle_input, Path()) else path.parent.name
        looked += [kaggle_input / "datasets" / owner / path.name, kaggle_input / path.name]
        owned = sorted(kaggle_input.glob(f"datasets/{owner}/{path.name}"))
        if len(owned) > 1:
            names = ", ".join("/".join(mount.parts[-2:]) for mount in owned)
            raise FormatError(f"{name}: several data sets are called so; name one with its owner: {names}")
        for mount in (*owned, kaggle_input / path.name):
            if mount.is_dir():
                return _inside(mount)
    places = ", ".join(map(str, dict.fromkeys(looked)))
    raise FormatError(
        f"{name}: is not a folder, a tar or a data set mounted here (looked for {places}){_mounted(kaggle_input)}"
    )


def _mounted(kaggle_input: Path) -> str:
    """The data sets that a Kaggle notebook has as inputs: two levels deep at most, walking all of it takes minutes."""
    names = [path.name for path in kaggle_input.glob("*") if path.name != "datasets"]
    names += ["/".join(path.parts[-2:]) for path in kaggle_input.glob("datasets/*/*")]
    return f"; mounted are {', '.join(sorted(names))}" if names else ""


def split_of(path: Path) -> str | None:
    """The split that a tar is named by: a word anywhere in its name, or else its folder's whole name.

    Raises FormatError where the name holds words of several splits.
    """
    words = re.findall("[a-z]+", path.name.lower())
    found = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    if len(found) > 1:
        raise FormatError(f"{path}: its name says {' and '.join(sorted(found))}; name one split in it")
    return next(iter(found), SPLIT_WORDS.get(path.absolute().parent.name.lower()))


def _inside(folder: Path) -> tuple[Path, list[Path] | None]:
    """The folder itself, or the one in it that holds shards: uploads are often wrapped, once or twice."""
    for pattern in ("index.json", "*/index.json"):
        if found := sorted(folder.glob(pattern)):
            return _only(folder, [path.parent for path in found]), None
    if any(folder.glob("samples.*")) or any(folder.glob(".*.json")):  # unfinished: the tables, or a build's journal
        return folder, None
    tars = _tars_in(folder)
    tars += [path for path in _unpacked(folder) if path.with_name(f"{path.name}.tar") not in tars]
    if tars:
        return folder, sorted(tars)
    if found := sorted(folder.glob("*/*/index.json")):
        return _only(folder, [path.parent for path in found]), None
    once = _folders(folder)
    for places in (once, [inner for outer in once for inner in _folders(outer)]):
        found = {place: tars for place in places if (tars := _tars_in(place))}
        if found:
            place = _only(folder, list(found))
            return place, found[place]
    return folder, None


def _only(folder: Path, found: list[Path]) -> Path:
    if len(found) > 1:
        names = ", ".join(path.relative_to(folder).as_posix() for path in found[:8])
        raise FormatError(f"{folder}: holds several shards folders ({names}); name one")
    return found[0]


def _tars_in(folder: Path) -> list[Path]:
    """The tars of another writer in a folder, and in those of its folders that are named by a split."""
    folders = [folder, *(inner for inner in _folders(folder) if inner.name.lower() in SPLIT_WORDS)]
    found = (path for place in folders for path in place.glob("*.[tT]*"))
    files = sorted(path for path in found if not path.name.startswith(HIDDEN))  # macOS leaves ._train-000.tar
    for path in files:
        if not path.with_name(COMPRESSED.sub(".tar", path.name)).is_file():
            _check_plain(path)
    return [path for path in files if path.suffix.lower() == ".tar"]


def _check_plain(path: Path) -> None:
    if COMPRESSED.search(path.name):
        raise FormatError(
            f"{path}: is compressed; clips are read out of the middle of plain tars: unpack it to a .tar "
            f"(gunzip, bunzip2, unxz or zstd -d)"
        )


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith(HIDDEN))


def _unpacked(folder: Path) -> list[Path]:
    """Folders that Kaggle has made of another writer's tars, this one or those in it: there are labels inside."""
    if any(folder.glob("*.cls")):
        return [folder]
    return [path for path in _folders(folder) if any(path.glob("*.cls")) or any(path.glob("*/*.cls"))]


def _pattern(text: str) -> tuple[Path, list[Path]]:
    tars = []
    for name in expand_braces(text):
        found = sorted(glob.glob(name)) if glob.has_magic(name) else [name]
        tars += [Path(path) for path in found]
    if not tars:
        raise FormatError(f"{text}: no file fits this pattern")
    for path in tars:
        if not path.is_file():
            raise FormatError(f"{path}: is not a file; {text} names it")
        _check_plain(path)
    return tars[0].parent, tars


def expand_braces(text: str) -> list[str]:
    """The names that braces stand for, as in a shell: shards-{000..002}.tar is three; {a,b} works too."""
    names = [text]
    while any(BRACES.search(name) for name in names):
        names = list(islice((new for name in names for new in _expand_first(name)), MAX_NAMES + 1))
        if len(names) > MAX_NAMES:
            raise FormatError(f"{text}: stands for more than {MAX_NAMES} names")
    return names


def _expand_first(name: str) -> list[str]:
    match = BRACES.search(name)
    if match is None:
        return [name]
    head, tail = name[: match.start()], name[match.end() :]
    ends = re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", match[1])
    if ends is None:
        return [f"{head}{part}{tail}" for part in match[1].split(",")]
    first, last = int(ends[1]), int(ends[2])
    if not 0 <= last - first < MAX_NAMES:
        raise FormatError(f"{name}: {{{match[1]}}} must count upwards, to at most {MAX_NAMES} names")
    return [f"{head}{number:0{len(ends[1])}}{tail}" for number in range(first, last + 1)]
