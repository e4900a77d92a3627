"""Writing a shard: samples into one tar, which has its final name only when all of it is on disk."""

from __future__ import annotations

import contextlib
import io
import json
import secrets
import socket
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shardify.format.index import json_bytes
from shardify.format.members import Member
from shardify.format.tar import open_archive
from shardify.storage.local import file_sha256, rename, write_atomically


class ShardWriter:
    """Writes a temporary tar, then `.NAME.json`, then renames the tar; where that is not reached, nothing is left.

    The journal entry holds the tar's hash and comes first: a tar with a final name is either in an index, or
    has an entry, or was never ours. Temporary names are those of this attempt alone, and name its machine.
    """

    def __init__(self, folder: Path, name: str, members: Mapping[str, Member]) -> None:
        self.folder, self.name, self._members = folder, name, members
        self.rows: list[dict] = []
        self._attempt = f".{socket.gethostname()}.{secrets.token_hex(4)}"
        self.temporary = folder / f".{name}{self._attempt}.tmp"
        self._file = open(self.temporary, "wb")  # noqa: SIM115 (closed in seal and at the exit)
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_) -> None:
        for stream in (self._tar, self._file):
            with contextlib.suppress(OSError, ValueError):  # on a full disk closing fails as writing did
                stream.close()
        with contextlib.suppress(OSError):
            self.temporary.unlink()

    def add(self, sample: Sample) -> None:
        self.copy(sample.row, sample.members)

    def add_failure(self, row: dict) -> None:
        self.rows.append(row)

    def copy(self, row: dict, members: dict[str, bytes]) -> None:
        """A clip with its row, as they are."""
        # webdataset's TarWriter writes the same bytes, but importing it takes torch: 2 s and 550 MB
        for extension, content in sorted(members.items()):
            member = tarfile.TarInfo(f"{row['key']}.{extension}")
            member.size, member.mode = len(content), 0o644
            self._tar.addfile(member, io.BytesIO(content))
        self.rows.append({**row, "shard": self.name})

    def finish(self, plan_id: str, versions: dict[str, str]) -> dict:
        """Make the shard final and return its journal entry; a shard without any clip leaves no tar."""
        entry = self.seal(plan_id, versions)
        write_atomically(journal_path(self.folder, self.name), json_bytes(entry), self._attempt)
        if entry["samples"]:
            rename(self.temporary, self.folder / self.name)
        return entry

    def seal(self, plan_id: str, versions: dict[str, str]) -> dict:
        """Complete the temporary tar and return what its journal entry says."""
        self._tar.close()
        self._file.close()
        self._locate_payloads()
        return {
            "plan": plan_id,
            "name": self.name,
            "samples": sum(row["status"] == "ok" for row in self.rows),
            "bytes": self.temporary.stat().st_size,
            "sha256": file_sha256(self.temporary),
            "versions": versions,
            "rows": self.rows,
        }

    def _locate_payloads(self) -> None:
        """Where each payload lies in the tar, so that readers need not scan it."""
        with open_archive(self.temporary) as archive:
            places = {member.name: (member.offset, member.length) for member in archive.members}
        for row in self.rows:
            for name, member in self._members.items():
                if row["status"] == "ok":
                    place = places[f"{row['key']}.{member.extension}"]
                    row[f"{name}_offset"], row[f"{name}_length"] = place


def journal_path(folder: Path, name: str) -> Path:
    return folder / f".{name}.json"


def read_entry(folder: Path, name: str, plan_id: str) -> dict | None:
    """The entry of a shard of this very plan, whatever became of its tar; None where there is none."""
    try:
        entry = json.loads(journal_path(folder, name).read_text(encoding="utf-8"))
        return entry if entry["plan"] == plan_id and {"samples", "bytes", "sha256"} <= entry.keys() else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def read_journal(folder: Path, name: str, plan_id: str) -> dict | None:
    """The entry of a finished shard of this very plan whose tar still has its hash; None: build it again."""
    entry = read_entry(folder, name, plan_id)
    try:
        return entry if entry and (not entry["samples"] or file_sha256(folder / name) == entry["sha256"]) else None
    except OSError:
        return None


@dataclass(frozen=True)
class Sample:
    """One clip: its members by extension, and its row of samples.csv."""

    key: str
    members: dict[str, bytes]
    row: dict
    decoder: str  # what decoded it, "cpu" or "cuda"
