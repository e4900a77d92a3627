"""The addresses of files and folders in object storage, as paths."""

from __future__ import annotations

import re
from pathlib import Path, PurePath, PurePosixPath

from shardify.errors import UsageError

SCHEMES = ("s3", "gs", "az", "https", "http", "hf")
REMOTE = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)  # one slash is left where it went through a Path


class Address(PurePosixPath):
    """The address of a file or folder in object storage, s3://bucket/key for one, with the operators of paths."""

    __slots__ = ()

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    @property
    def scheme(self) -> str:
        return self.parts[0].removesuffix(":")

    @property
    def bucket(self) -> str:
        """The bucket, the container, or the host of a web server."""
        return self.parts[1]

    @property
    def key(self) -> str:
        """The place below the root, without a slash at its ends."""
        return "/".join(self.parts[2:])

    def resolve(self) -> Address:
        """Itself: an address is absolute."""
        return self


def place_of(name: str | PurePath) -> Path | Address:
    """A path of this machine, or the address of a place in object storage, whatever slashes a Path has taken from it.

    Raises UsageError for an address of another kind, without a bucket, or with keys in it (which it does not repeat).
    """
    match = REMOTE.fullmatch(str(name))
    if match is None:
        return Path(name)
    scheme, rest = match.groups()
    if scheme not in SCHEMES:
        known = ", ".join(f"{known}://" for known in SCHEMES)
        raise UsageError(f"{scheme}://: such addresses are not known; use a folder, or one of {known}")
    root = rest.partition("/")[0]
    if "?" in rest or "@" in root:
        raise UsageError(f"{scheme}://: keys and signatures in an address are not used; see docs/storage.md for keys")
    if not root or ".." in rest.split("/"):
        raise UsageError(f"{name}: is no address; write {scheme}://{'HOST' if 'http' in scheme else 'BUCKET'}/FOLDER")
    return Address(f"{scheme}:/{rest}")
