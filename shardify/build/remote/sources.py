"""The files of a build's videos: here, or in object storage, from where each is fetched when its turn comes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from shardify.build.job import Job
from shardify.errors import ConflictError, MissingObjectError, NothingToBuildError, UsageError, VideoError
from shardify.format.synthetic import is_synthetic
from shardify.sources.fingerprint import open_fingerprint
from shardify.sources.layouts import MAX_BYTES, METADATA
from shardify.storage.address import Address
from shardify.storage.base import PART, ReaderFile, RemoteFile
from shardify.storage.local import write_atomically
from shardify.storage.place import storage_of
from shardify.text import human_bytes
from shardify.video.container import open_regular_file

logger = logging.getLogger(__name__)

AHEAD = 4  # files that are fetched before a worker is free
NAME_BYTES = 255  # of a file on this machine
PEEK = 64 << 10  # bytes of one request, where a small part of a file is wanted
BATCH = 1000  # pictures that are looked at side by side


class Sources:
    """Files of this machine: there is nothing to do for them."""

    is_remote = False

    def ready(self, jobs: Iterable[Job]) -> Iterable[Job | None]:
        """The jobs in order, each when its files are here, as units for `Executor.map`; `release` each that is done."""
        return jobs

    def release(self, job: Job) -> None:
        """Its files are not needed any more."""

    def open(self, path: Path, ahead: int = PEEK) -> contextlib.AbstractContextManager[io.IOBase]:
        """The file's content, as a binary file object; where it is not here, `ahead` bytes are asked for at a time.

        Raises VideoError, StorageError.
        """
        return open_regular_file(path)

    def fingerprint(self, path: Path, size: int, whole: bool) -> str:
        """As of `open_fingerprint`."""
        with self.open(path, PART if whole else PEEK) as file:
            return open_fingerprint(file, size, whole)

    def are_synthetic(self, pictures: Sequence[Path]) -> Iterator[bool]:
        """Whether each picture has the mark; False where it cannot be read, of which decoding will say more."""
        return map(self._is_synthetic, pictures)

    def _is_synthetic(self, picture: Path) -> bool:
        with contextlib.suppress(VideoError, OSError), self.open(picture) as file:
            return is_synthetic(file)
        return False


LOCAL = Sources()


@dataclass
class _Held:
    """A file whose content is here, or on its way; `users`: jobs that need it."""

    fetching: Future
    users: int = 0


class RemoteSources(Sources):
    """Objects below an address, in a folder of empty files that have their names and sizes.

    All that is listed, planned and compared is the same as with files of this machine. Of the contents there are at
    most `files` here at a time, and `size` bytes. An object that is gone, or another one by now, becomes a file that
    is not there; whatever else goes wrong with the network is raised as StorageError.
    """

    is_remote = True

    def __init__(self, address: Address, folder: Path, *, files: int, size: int) -> None:
        self.folder = folder / address.name
        self._address, self._max_files, self._max_size = address, files, size
        self._files: dict[Path, RemoteFile] = {}
        self._held: dict[Path, _Held] = {}
        self._in_hand = 0  # jobs that workers have
        self._pool, self._closed = ThreadPoolExecutor(AHEAD, "download"), threading.Event()

    def make_folder(self) -> None:
        """List the objects and make the empty files; the lists of data sets are fetched at once."""
        left_out = []
        for file in storage_of(self._address).list_files(self._address):
            path = self.folder / file.name
            try:
                if not _is_file_name(file.name):
                    raise OSError
                path.parent.mkdir(parents=True, exist_ok=True)
                self._files[path] = file
                self._empty(path)
            except OSError:  # also a name that is a folder of others
                self._files.pop(path, None)
                left_out.append(file.name)
        if left_out:
            logger.warning(f"left out: {len(left_out)} objects whose names no files can have; first: {left_out[0]!r}")
        if not self._files:
            raise NothingToBuildError(f"{self._address}: holds no object; check the address")
        for path, file in self._files.items():
            if path.name in METADATA and file.size <= MAX_BYTES:
                self._fetch(path)

    def ready(self, jobs: Iterable[Job]) -> Iterator[Job | None]:
        jobs, coming = iter(jobs), deque()
        job = next(jobs, None)
        while job is not None or coming:
            while job is not None and self._begin(job):
                coming.append(job)
                job = next(jobs, None)
            if coming and (not self._in_hand or all(held.fetching.done() for held in self._held_by(coming[0]))):
                for held in self._held_by(coming[0]):
                    held.fetching.result()
                self._in_hand += 1
                yield coming.popleft()
            else:
                yield None

    def release(self, job: Job) -> None:
        self._in_hand -= 1
        self._let_go(self._paths(job))

    @contextlib.contextmanager
    def open(self, path: Path, ahead: int = PEEK) -> Iterator[io.IOBase]:
        if path not in self._files:  # a manifest names files of this machine too
            with super().open(path) as file:
                yield file
            return
        address = self._address / path.relative_to(self.folder)
        try:
            with storage_of(address).open_reader(address, self._files[path]) as reader:
                yield io.BufferedReader(ReaderFile(reader), ahead)
        except (MissingObjectError, ConflictError) as error:
            raise VideoError(f"cannot be opened: {os.strerror(errno.ENOENT)}") from error

    def are_synthetic(self, pictures: Sequence[Path]) -> Iterator[bool]:
        for start in range(0, len(pictures), BATCH):
            yield from self._pool.map(self._is_synthetic, pictures[start : start + BATCH])

    def close(self) -> None:
        """Forget what is not here yet; what is on its way is cut off after its next part."""
        self._closed.set()
        self._pool.shutdown(cancel_futures=True)

    def _paths(self, job: Job) -> list[Path]:
        """The job's files among those that are remote."""
        return [path for path in (job.path, *([job.sound.path] if job.sound else [])) if path in self._files]

    def _held_by(self, job: Job) -> list[_Held]:
        return [self._held[path] for path in self._paths(job)]

    def _begin(self, job: Job) -> bool:
        """Fetch the job's files if there is room. Raises UsageError where there never will be."""
        paths = self._paths(job)
        new = [path for path in paths if path not in self._held]
        size = sum(self._files[path].size for path in [*self._held, *new])
        if len(self._held) + len(new) <= self._max_files and size <= self._max_size:
            self._hold(paths)
            return True
        if not self._held:
            raise UsageError(
                f"{job.source}: takes {human_bytes(size)}, and --scratch-gb is {self._max_size / 1e9:g}; pass more"
            )
        return False

    def _hold(self, paths: list[Path]) -> None:
        for path in paths:
            if path not in self._held:
                self._held[path] = _Held(self._pool.submit(self._fetch, path))
            self._held[path].users += 1

    def _let_go(self, paths: list[Path]) -> None:
        for path in paths:
            self._held[path].users -= 1
            if not self._held[path].users:
                del self._held[path]
                if path.exists():
                    self._empty(path)

    def _fetch(self, path: Path) -> None:
        """Put the content in place of the empty file, or remove it where the object is not what was listed."""
        try:
            with self.open(path, PART) as content:
                write_atomically(path, self._parts(content))
            self._date(path)
        except VideoError as error:
            logger.warning(str(error.__cause__))
            path.unlink(missing_ok=True)

    def _parts(self, content: io.IOBase) -> Iterator[bytes]:
        while part := content.read(PART):
            if self._closed.is_set():
                raise CancelledError
            yield part

    def _empty(self, path: Path) -> None:
        with open(path, "wb") as file:
            file.truncate(self._files[path].size)
        self._date(path)

    def _date(self, path: Path) -> None:
        """Give it a time of change that the object's ETag decides: another content is another state of the file.

        The times are of long ago, for what is newer than the last build is read when changes are looked for.
        """
        etag = hashlib.sha256(str(self._files[path].etag).encode()).digest()
        time_ns = int.from_bytes(etag[:7]) % 10**17
        os.utime(path, ns=(time_ns, time_ns))


def _is_file_name(name: str) -> bool:
    parts = name.split("/")
    return all(part not in ("", ".", "..") and len(os.fsencode(part)) <= NAME_BYTES - len("..tmp") for part in parts)
