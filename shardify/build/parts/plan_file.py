"""The plan of a build as a file in the shards folder, from which machines that build its parts take their shards.

JSON lines: first what was asked for, the earlier build that the plan continues, the libraries and the names of all
shards; then each shard with its jobs, the state of their files, and the hash of all that; last the SHA-256 of the lines
before. A plan is read and written line by line: that of a million videos has hundreds of megabytes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shardify.build.build_shard import library_versions, plan_hash
from shardify.build.parts.planned_shard import differences, from_line, other_file, to_line
from shardify.build.plan import ShardPlan
from shardify.build.previous import PLAN
from shardify.build.request import BuildRequest
from shardify.errors import FormatError, ShardifyError, UsageError
from shardify.format.index import json_bytes, read_meta, sha256
from shardify.storage.local import file_sha256, write_atomically


@dataclass(frozen=True)
class Part:
    """One of `count` parts of a build: every count-th shard of the plan, from `number` on; `count` itself is 0."""

    number: int
    count: int

    @classmethod
    def of(cls, text: str) -> Part:
        """From `i/n`. Raises UsageError."""
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and int(number) <= int(count) and int(count)):
            raise UsageError(f"--part is {text}; write it as i/n with i from 0 to n, for example 3/100")
        return cls(int(number), int(count))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def write_plan(request: BuildRequest, shards: list[ShardPlan]) -> None:
    """Write the file, in place of one that is there; no file where there is nothing to build."""
    if shards:
        write_atomically(request.out / PLAN, _lines(request, shards), f".{secrets.token_hex(4)}")
    else:
        (request.out / PLAN).unlink(missing_ok=True)


def continues_build(folder: Path) -> bool:
    """Whether the folder's plan continues the build that the folder holds now; read_plan judges a damaged one."""
    with open(folder / PLAN, "rb") as file:
        try:
            return json.loads(file.readline())["continues"] == _build_in(folder)
        except (ValueError, KeyError, TypeError):
            return True


def read_plan(request: BuildRequest, part: Part) -> tuple[list[ShardPlan], list[str]]:
    """The shards of a part, and the names of all shards of the plan.

    Raises FormatError where the file is damaged, UsageError where it was made with other options, ShardifyError where
    this machine has other libraries (or another processor, where sound is kept), or sees other files, than the one that
    made it.
    """
    path = request.out / PLAN
    again = "make it again with --plan-only"
    try:
        head, chosen = _read_lines(path, part)
    except ValueError as error:
        raise FormatError(f"{path}: is damaged ({error}); {again}") from error
    if changed := differences(head["asked"], _asked(request)):
        raise UsageError(f"{path}: was made with other options ({changed}); pass the same, or {again}")
    host = socket.gethostname()
    if changed := differences(head["versions"], library_versions(request.settings)):
        raise ShardifyError(
            f"{host} has other libraries than the machine that made {path}, or another kind of processor ({changed}); "
            f"install those libraries, and take machines of one cpu, or {again}"
        )
    shards = [from_line(line, request.data) for line in chosen]
    for line, shard in zip(chosen, shards, strict=True):
        if line["plan"] != plan_hash(shard, request.settings):
            where = other_file(line, shard) or f"{shard.name} is planned otherwise"
            raise ShardifyError(f"{host} sees other files than the machine that made {path}: {where}; {again}")
    return shards, head["shards"]


def _asked(request: BuildRequest) -> dict:
    """The options that shape the plan, by name."""
    files = {name: getattr(request, name) for name in ("manifest", "split_file")}
    hashes = {name: path and _content_sha256(path) for name, path in files.items()}
    return {**vars(request.settings), "layout": request.layout, **hashes}


def _content_sha256(path: Path) -> str:
    """Of a file, or of the tables in a folder, with their names."""
    if not path.is_dir():
        return file_sha256(path)
    tables = [[table.name, file_sha256(table)] for table in sorted(path.glob("*.csv"))]
    return sha256(json_bytes(tables))


def _build_in(folder: Path) -> str | None:
    """The hash of the finished build in the folder; None where there is none."""
    return read_meta(folder).get("index_sha256") if (folder / "index.json").exists() else None


def _lines(request: BuildRequest, shards: list[ShardPlan]) -> Iterator[bytes]:
    """The file's lines, the last one with the hash of the others."""
    digest = hashlib.sha256()
    head = {
        "asked": _asked(request),
        "continues": _build_in(request.out),
        "versions": library_versions(request.settings),
        "shards": [shard.name for shard in shards],
    }
    for values in itertools.chain([head], (to_line(shard, request) for shard in shards)):
        line = f"{json.dumps(values)}\n".encode()
        digest.update(line)
        yield line
    yield f"{json.dumps({'sha256': digest.hexdigest()})}\n".encode()


def _read_lines(path: Path, part: Part) -> tuple[dict, list[dict]]:
    """The first line, and those of the part's shards. Raises ValueError where the last one has not their hash."""
    digest, chosen = hashlib.sha256(), []
    with open(path, "rb") as file:
        head = line = file.readline()
        for number, following in enumerate(file):
            digest.update(line)
            if number and (number - 1) % part.count == part.number % part.count:
                chosen.append(line)
            line = following
    if json.loads(line) != {"sha256": digest.hexdigest()}:
        raise ValueError("its hash is another")
    return json.loads(head), [json.loads(line) for line in chosen]
