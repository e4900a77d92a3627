"""What the builder's tests share: small sets of videos, and a whole folder as one value to compare."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
from media import numbered_picture, numbered_video

from shardify.build.build import BuildReport, build
from shardify.build.job import Job
from shardify.build.request import BuildRequest
from shardify.format.card import card_bytes
from shardify.format.index import json_bytes, read_index, read_rows, sha256
from shardify.format.records import PRIMARY, npy_bytes
from shardify.format.settings import BuildSettings
from shardify.storage.table import table_bytes

SMALL = {"frames": 4, "size": 32, "shard_size": 4}


def make_videos(data: Path, names: list[str]) -> Path:
    """Tiny real videos `class/stem.mp4`, each with a length and first pictures of its own."""
    for name in names:
        path = data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = hashlib.sha256(name.encode()).digest()[0]
        numbered_video(
            path,
            5 + seed % 3,
            size=(32, 32),
            codec="mpeg4",
            container_format="mp4",
            picture=_numbered_from(seed),
        )
    return data


def video_names(count: int, stem: str = "v") -> list[str]:
    return [f"{'real' if i % 2 else 'fake'}/{stem}{i:02d}.mp4" for i in range(count)]


def make_data(data: Path, count: int) -> Path:
    """So many videos of two classes, and one that is broken."""
    make_videos(data, video_names(count))
    (data / "fake" / "broken.mp4").write_bytes(b"no video")
    return data


def run_build(data: Path, out: Path, *, workers: int = 1, timeout_seconds: float = 60, **options) -> BuildReport:
    """`options` are settings, or what else a request has; `model` is the file of the faces' detector."""
    beside = {name: options.pop(name) for name in ("manifest", "boxes", "changes") if name in options}
    beside["faces_model"] = options.pop("model", None)
    settings = BuildSettings(**{**SMALL, **options})
    return build(BuildRequest(data, out, settings, workers=workers, timeout_seconds=timeout_seconds, **beside))


def tree(folder: Path) -> dict[str, str]:
    """Name → SHA-256 of every entry of a folder, hidden ones included."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def tree_of_build(data: Path, out: Path) -> dict[str, str]:
    """The folder that one build on this machine makes."""
    run_build(data, out)
    return tree(out)


def unpack(folder: Path) -> None:
    """What Kaggle does to uploaded tars."""
    for path in list(folder.glob("*.tar")):
        shutil.unpack_archive(path, path.with_suffix(""), filter="data")
        path.unlink()


def reseal(shards, samples=None, rows=None, tar=None):
    """Make all hashes fit, so that only the checks of one thing against another are left."""
    index = read_index(shards)
    meta = {name: value for name, value in index.meta.items() if name != "index_sha256"}
    tables = {
        "samples.npy": npy_bytes(np.array(index.samples) if samples is None else samples),
        "samples.csv": table_bytes((rows or read_rows(shards))[0], rows or read_rows(shards)),
    }
    meta["sha256"] = {name: sha256(content) for name, content in tables.items()}
    for shard in meta["splits"]["train"]["shards"]:
        if tar and shard["name"] == tar.name:
            shard.update(bytes=tar.stat().st_size, sha256=sha256(tar.read_bytes()))
    tables["index.json"] = json_bytes(meta | {"index_sha256": sha256(json_bytes(meta))})
    for name, content in tables.items():
        (shards / name).write_bytes(content)
    (shards / "README.md").write_bytes(card_bytes(meta, read_index(shards).samples))


def make_job(path: Path, split: str = "train", label: int = 0) -> Job:
    return Job(
        path, path.name, f"{path.stem}-0123456789abcdef", split, {PRIMARY: label}, {PRIMARY: "real"}, float(label), "g"
    )


def _numbered_from(first: int):
    return lambda i, width, height: numbered_picture(first + i, width, height)
