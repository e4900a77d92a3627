"""Exceptions, one class per kind of failure; every message names the file and the remedy."""

from shardify.text import printable


class ShardifyError(Exception):
    """Base of all failures that are reported to the user as one line."""

    exit_code = 1

    def __str__(self) -> str:
        """One line, in which names that others have chosen cannot command a terminal."""
        return printable(super().__str__())


class UsageError(ShardifyError):
    """Options that contradict each other or the data folder's layout."""

    exit_code = 2


class NothingToBuildError(ShardifyError):
    """The data folder or manifest holds no usable video."""

    exit_code = 3


class BusyError(ShardifyError):
    """Another build holds the output folder."""

    exit_code = 4


class VideoError(ShardifyError):
    """One input cannot be used; the text becomes its `error` in samples.csv and the build continues."""


class FormatError(ShardifyError):
    """A shards folder, shard or index is damaged, unfinished or not ours."""


class StorageError(ShardifyError):
    """Object storage cannot be reached, refuses, or answers wrongly."""


class MissingObjectError(StorageError):
    """Object storage has nothing under this address."""


class ConflictError(StorageError):
    """An object is there already, or is another one by now, and was to be written only if not."""
