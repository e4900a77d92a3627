"""A shards folder as a Kaggle dataset: its metadata, what is sent, and what Kaggle makes of it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from shardify.errors import FormatError, UsageError
from shardify.format.index import TABLES, json_bytes, read_meta, shard_names
from shardify.format.schema import SHARD
from shardify.format.tar import open_archive
from shardify.storage.local import write_atomically
from shardify.text import human_bytes

METADATA = "dataset-metadata.json"
STATE = ".cache"  # a folder that the kaggle client never sends
TITLE_LENGTH = SLUG_LENGTH = (6, 50)  # as kaggle 2.2 checks them before it creates a dataset
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Staged:
    """A folder that holds what is sent and nothing else, and what it turns into at Kaggle."""

    folder: Path
    dataset: str  # owner/slug
    index_sha256: str  # of index.json, which holds the hashes of all the rest
    sent: dict[str, int]  # file name → bytes
    unpacked: dict[str, dict[str, int]]  # tar → path after unpacking → bytes

    def lines(self) -> list[str]:
        """Sizes and counts for people."""
        members = [size for files in self.unpacked.values() for size in files.values()]
        plain = [size for name, size in self.sent.items() if name not in self.unpacked]
        size = human_bytes(sum(self.sent.values()))
        return [
            f"{self.dataset}: {len(self.sent)} files to send, {size}, gathered in {self.folder}",
            f"after unpacking: {len(members) + len(plain)} files, {human_bytes(sum(members) + sum(plain))}",
        ]


def check_metadata(dataset: str, title: str) -> None:
    """Raises UsageError for what Kaggle would refuse, before anything is sent."""
    owner, _, slug = dataset.partition("/")
    if not NAME.fullmatch(owner) or not NAME.fullmatch(slug):
        raise UsageError(
            f"--id is {dataset}; it must be owner/slug: your user name at Kaggle, and lower-case letters and digits "
            "with single hyphens between"
        )
    for what, text, (low, high) in (("--title", title, TITLE_LENGTH), ("the slug of --id", slug, SLUG_LENGTH)):
        if not low <= len(text) <= high:
            raise UsageError(f"{what} has {len(text)} characters ({text}); Kaggle takes {low} to {high}")
    if title != title.strip() or not title.isprintable():
        raise UsageError(f"--title is {title!r}; it must be one line without blanks at its ends")


def metadata_bytes(dataset: str, title: str, license_name: str) -> bytes:
    return json_bytes({"title": title, "id": dataset, "licenses": [{"name": license_name}]})


def stage(shards: Path, dataset: str, title: str, license_name: str) -> Staged:
    """Hard links (copies on another disk) to a sound folder's files, beside it in SHARDS-kaggle, with the metadata.

    The links keep names and times, by which the kaggle client knows what it has sent already.
    """
    meta = read_meta(shards)
    tars = sorted(shard_names(meta))
    unpacked = next((name for name in tars if not (shards / name).is_file()), None)
    if unpacked:
        raise FormatError(f"{shards}: {unpacked} is no tar here; send the folder that `shardify build` made")
    names = ["index.json", *TABLES, *tars]
    folder = shards.resolve().with_name(f"{shards.resolve().name}-kaggle")
    _check_ours(folder)
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name in names or path.name in (STATE, METADATA):
            continue
        if not SHARD.fullmatch(path.name) and not path.name.endswith(".tmp"):
            raise UsageError(f"{path}: is none of the files that are sent; move it out of that folder")
        path.unlink()
    for name in names:
        _link(shards / name, folder / name)
    write_atomically(folder / METADATA, metadata_bytes(dataset, title, license_name))
    return Staged(
        folder,
        dataset,
        meta["index_sha256"],
        {name: (folder / name).stat().st_size for name in names},
        {name: _members(folder / name) for name in tars},
    )


def commands(staged: Staged) -> list[str]:
    """What to type to send the folder, as a new data set or a new version of one, and to see how it went."""
    folder = shlex.quote(str(staged.folder))
    return [
        f"kaggle datasets create -p {folder}",
        f"kaggle datasets version -p {folder} -m 'what is new'   # where {staged.dataset} is there already",
        f"kaggle datasets status {staged.dataset}",
    ]


def _check_ours(folder: Path) -> None:
    """The staging folder is emptied of strangers, so it must be new, empty, or one that was made here."""
    if folder.exists() and not (folder.is_dir() and ((folder / METADATA).exists() or not any(folder.iterdir()))):
        raise UsageError(f"{folder}: is in the way, for what is sent is gathered there; move it")


def _link(source: Path, target: Path) -> None:
    if target.exists():
        if target.samefile(source):
            return
        old, new = target.stat(), source.stat()
        if (old.st_size, old.st_mtime_ns) == (new.st_size, new.st_mtime_ns):
            return
        target.unlink()
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or one without hard links
        shutil.copy2(source, target)


def _members(tar: Path) -> dict[str, int]:
    """Path after unpacking → bytes: Kaggle makes a folder of the tar's name."""
    with open_archive(tar) as archive:
        return {f"{tar.stem}/{member.name}": member.length for member in archive.members}
