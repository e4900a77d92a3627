"""The choice of the storage by a place: a path of this machine, or an address in object storage."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path, PurePath

from shardify.storage import hf, local, remote
from shardify.storage.address import Address, place_of
from shardify.storage.base import Reader, RemoteStorage


def storage_of(address: Address) -> RemoteStorage:
    """The module that reads from there."""
    return hf if address.scheme == "hf" else remote


def open_place(name: str | PurePath) -> Path | Address:
    """As `place_of`; the address of a data set on the Hub gets the commit that it is now, so that it stays one."""
    place = place_of(name)
    return hf.pinned(place) if isinstance(place, Address) and place.scheme == "hf" else place


def open_reader(place: Path | Address) -> AbstractContextManager[Reader]:
    """A file of either kind, open for reading; in object storage each read is a request."""
    return storage_of(place).open_reader(place) if isinstance(place, Address) else local.open_reader(place)
