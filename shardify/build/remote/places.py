"""A build of videos in object storage as a build of a folder of this machine, for as long as it runs."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from shardify.build import commit
from shardify.build.remote.sources import AHEAD, RemoteSources
from shardify.build.request import BuildRequest
from shardify.errors import BusyError, UsageError
from shardify.machine import usable_cores
from shardify.storage.address import Address
from shardify.storage.place import open_place

PREFIX = "shardify-"  # of folders in the scratch folder


@dataclass(frozen=True)
class Scratch:
    """Where the videos of a bucket lie until they are decoded, and how many bytes of them at a time."""

    folder: Path | None  # None: the system's folder for temporary files
    size: int


@contextlib.contextmanager
def open_places(request: BuildRequest, scratch: Scratch) -> Iterator[BuildRequest]:
    """The request with folders of this machine. Raises UsageError, StorageError and NothingToBuildError."""
    data = open_place(request.data)
    if request.out is not None and isinstance(open_place(request.out), Address):
        raise UsageError(
            f"{open_place(request.out)}: shards are built into a folder of this machine; copy it there then"
        )
    if not isinstance(data, Address):
        yield request
        return
    workers = request.workers or usable_cores()
    with _folder_in(scratch.folder or Path(tempfile.gettempdir())) as folder:
        sources = RemoteSources(data, folder, files=workers + AHEAD, size=scratch.size)
        with contextlib.closing(sources):
            sources.make_folder()
            yield replace(request, data=sources.folder, sources=sources)


@contextlib.contextmanager
def _folder_in(scratch: Path) -> Iterator[Path]:
    """A folder of this process alone; those of processes that were killed are removed first."""
    scratch.mkdir(parents=True, exist_ok=True)
    for old in scratch.glob(f"{PREFIX}*"):
        with contextlib.suppress(BusyError, OSError), commit.lock_folder(old):
            shutil.rmtree(old)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=scratch))
    with commit.lock_folder(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
