"""A build whose videos or shards lie in object storage, as one of folders of this machine, for as long as it runs."""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from shardify.build import commit
from shardify.build.remote.sources import AHEAD, RemoteSources
from shardify.build.remote.target import RemoteTarget
from shardify.build.request import BuildRequest
from shardify.errors import BusyError, ShardifyError, UsageError
from shardify.machine import usable_cores
from shardify.storage.address import Address
from shardify.storage.place import open_place

PREFIX = "shardify-build-"  # of folders in the scratch folder
MARK = ".shardify-scratch"  # is in each of them, and in no folder of the user's


@dataclass(frozen=True)
class Scratch:
    """Where videos and shards of a bucket lie until they are decoded or sent; how many bytes of videos at a time."""

    folder: Path | None  # None: the system's folder for temporary files
    size: int


@contextlib.contextmanager
def open_places(request: BuildRequest, scratch: Scratch, *, writes: bool, take_over: bool) -> Iterator[BuildRequest]:
    """The request with folders of this machine.

    writes: whether shards are built, so that a bucket is held for one build. take_over: from one that has died.
    Raises UsageError, StorageError, BusyError and NothingToBuildError.
    """
    places = {"data": open_place(request.data), "out": request.out and open_place(request.out)}
    remote = {name: place for name, place in places.items() if isinstance(place, Address)}
    if take_over and "out" not in remote:
        raise UsageError("--take-over is for SHARDS in a bucket; a folder of this machine is let go when a build ends")
    if not remote:
        yield request
        return
    with _unwinding(), contextlib.ExitStack() as stack:
        folder = stack.enter_context(_folder_in(scratch.folder or Path(tempfile.gettempdir())))
        stack.enter_context(_as_called({folder / name / place.name: place for name, place in remote.items()}))
        if "data" in remote:
            files = (request.workers or usable_cores()) + AHEAD
            sources = RemoteSources(places["data"], folder / "data", files=files, size=scratch.size)
            stack.enter_context(contextlib.closing(sources))
            sources.make_folder()
            request = replace(request, data=sources.folder, sources=sources)
        if "out" in remote:
            target = RemoteTarget(places["out"], folder / "out")
            if writes:
                stack.enter_context(target.locked(take_over))
            stack.enter_context(contextlib.closing(target))
            target.open()
            request = replace(request, out=target.folder, target=target)
        yield request


@contextlib.contextmanager
def _unwinding() -> Iterator[None]:
    """While entered, Ctrl-C is raised, so that a bucket's lock and the folder in scratch do not stay."""
    is_main = threading.current_thread() is threading.main_thread()
    outer = signal.signal(signal.SIGINT, signal.default_int_handler) if is_main else None
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGINT, outer)


@contextlib.contextmanager
def _as_called(addresses: dict[Path, Address]) -> Iterator[None]:
    """Errors and our lines of the log name the places as the user does."""

    def named(text: str) -> str:
        for folder, address in addresses.items():
            text = text.replace(str(folder), str(address))
        return text

    def make_record(name: str, *args, **kwargs) -> logging.LogRecord:
        record = make_any(name, *args, **kwargs)
        if name.startswith("shardify."):
            record.msg, record.args = named(record.getMessage()), ()
        return record

    make_any = logging.getLogRecordFactory()
    logging.setLogRecordFactory(make_record)
    try:
        yield
    except ShardifyError as error:
        raise type(error)(named(error.args[0])) from error
    finally:
        logging.setLogRecordFactory(make_any)


@contextlib.contextmanager
def _folder_in(scratch: Path) -> Iterator[Path]:
    """A folder of this process alone; those of processes that were killed are removed first."""
    scratch.mkdir(parents=True, exist_ok=True)
    for mark in scratch.glob(f"{PREFIX}*/{MARK}"):
        with contextlib.suppress(BusyError, OSError), commit.lock_folder(mark.parent):
            shutil.rmtree(mark.parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=scratch))
    with commit.lock_folder(folder):
        try:
            (folder / MARK).touch()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
