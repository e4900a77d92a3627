"""The entries of a folder and of all folders below it, with links to folders followed within bounds."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path, PurePath

PICTURE_EXTENSIONS = frozenset(["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff"])
VIDEO_EXTENSIONS = frozenset(
    "mp4 m4v mov qt avi mkv webm mpg mpeg m2v ts mts m2ts flv f4v 3gp 3g2 ogv wmv asf rm rmvb gif y4m mxf dv "  # noqa: SIM905
    "h264 264 h265 265 hevc ivf".split()
)

# What systems and programs leave behind: archives' and servers' folders, lists of thumbnails; and all names with a dot.
SYSTEM_NAMES = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", "Thumbs.db"}

Identity = tuple[int, int]
Place = tuple[Path, frozenset[Identity]]  # a folder or a link to one, and the folders on its path


class Entries:
    """Iterates over every entry below a folder; `notes` says afterwards what was passed over.

    Hidden entries and those of the system are, with all that lies in them; `hidden` counts them.

    A folder is listed at its own place, and again at each link to it that lies in such a folder. A link inside a
    linked folder is passed over where it leads to a folder with a place of its own, or to one that the same outermost
    link has led to already: links within links would be 2^n inputs. No link is followed into a folder on its own path.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._above: list[Path] = []  # lead into a folder on their own path
        self._again: list[Path] = []  # inside linked folders, to folders that are listed already
        self.hidden = 0
        self._first_hidden = ""

    def __iter__(self) -> Iterator[Path]:
        own, outermost = set(), []
        parents = frozenset(map(_identity, self._folder.resolve().parents))
        yield from self._tree(self._folder, parents, own, outermost)
        for outer in _sorted(outermost):
            seen, links = set(), deque([outer])
            while links:
                link, above = links.popleft()
                here = _identity(link)
                if link != outer[0] and here not in above and (here in own or here in seen):
                    self._again.append(link)
                    continue
                found: list[Place] = []
                yield from self._tree(link, above, seen, found)
                links.extend(_sorted(found))

    def notes(self) -> list[str]:
        lines = []
        if self.hidden:
            lines.append(f"ignored {self.hidden} hidden or system entries; for example {self._first_hidden}")
        if self._above:
            first = min(self._above, key=os.fsencode).relative_to(self._folder)
            lines.append(f"not followed: {len(self._above)} links to folders above them; first: {first}")
        if self._again:
            first = min(self._again, key=os.fsencode).relative_to(self._folder)
            counts: dict[Identity, int] = {}
            for link in self._again:
                if _identity(link) not in counts:
                    counts[_identity(link)] = sum(map(is_video_name, self._tree(link, frozenset(), set(), [])))
            videos = sum(counts[_identity(link)] for link in self._again)
            lines.append(
                f"not followed: {len(self._again)} links inside linked folders, to {videos} videos that are inputs "
                f"under another name; first: {first}"
            )
        return lines

    def _tree(
        self, place: Path, above: frozenset[Identity], listed: set[Identity], links: list[Place]
    ) -> Iterator[Path]:
        """Every entry below a place; takes down the folders that are listed, and the links to folders among them."""
        places = [(place, above)]
        while places:
            place, above = places.pop()
            here = _identity(place)
            if here in above:
                self._above.append(place)
                continue
            listed.add(here)
            below = above | {here}
            with os.scandir(place) as entries:
                for entry in entries:
                    path = place / entry.name
                    if entry.name.startswith(".") or entry.name in SYSTEM_NAMES:
                        self.hidden += 1
                        self._first_hidden = min(self._first_hidden or entry.name, entry.name)
                        continue
                    yield path
                    if _is_folder(entry):
                        (links if entry.is_symlink() else places).append((path, below))


def find_videos(folder: Path) -> tuple[list[str], list[str]]:
    """Every entry below a folder that is named like a video, relative to it, sorted; and lines for the user.

    Where there is no video, those that are named like a picture; where there are both, a line counts the pictures.
    """
    entries = Entries(folder)
    paths = [path for path in entries if is_video_name(path) or is_picture_name(path)]
    notes, videos = entries.notes(), [path for path in paths if is_video_name(path)]
    if videos and len(paths) > len(videos):
        first = min(path.relative_to(folder) for path in paths if not is_video_name(path))
        notes.append(f"left out: {len(paths) - len(videos)} pictures beside the videos; first: {first}")
    found = (path.relative_to(folder).as_posix() for path in videos or paths)
    return sorted(found, key=os.fsencode), notes


def is_video_name(path: PurePath) -> bool:
    return path.suffix[1:].lower() in VIDEO_EXTENSIONS


def is_picture_name(path: PurePath) -> bool:
    return path.suffix[1:].lower() in PICTURE_EXTENSIONS


def _sorted(places: list[Place]) -> list[Place]:
    return sorted(places, key=lambda place: os.fsencode(place[0]))


def _identity(folder: Path) -> Identity:
    here = folder.stat()
    return here.st_dev, here.st_ino


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:  # a link loop, or gone: a video's name still makes it an input
        if error.errno not in (errno.ELOOP, errno.ENOENT, errno.ENOTDIR):
            raise  # what an unreadable folder holds must not be missing without a word
        return False
