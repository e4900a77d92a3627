"""What the builder's tests share: small sets of videos, and a whole folder as one value to compare."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from media import numbered_picture, numbered_video

from shardify.build.build import BuildReport, build
from shardify.build.job import Job
from shardify.build.request import BuildRequest
from shardify.format.settings import BuildSettings

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


def run_build(data: Path, out: Path, *, workers: int = 1, timeout_seconds: float = 60, **options) -> BuildReport:
    """`options` are settings, or what else a request has; `model` is the file of the faces' detector."""
    beside = {name: options.pop(name) for name in ("manifest", "boxes", "changes") if name in options}
    beside["faces_model"] = options.pop("model", None)
    settings = BuildSettings(**{**SMALL, **options})
    return build(BuildRequest(data, out, settings, workers=workers, timeout_seconds=timeout_seconds, **beside))


def tree(folder: Path) -> dict[str, str]:
    """Name → SHA-256 of every entry of a folder, hidden ones included."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def unpack(folder: Path) -> None:
    """What Kaggle does to uploaded tars."""
    for path in list(folder.glob("*.tar")):
        shutil.unpack_archive(path, path.with_suffix(""), filter="data")
        path.unlink()


def make_job(path: Path, split: str = "train", label: int = 0) -> Job:
    return Job(path, path.name, f"{path.stem}-0123456789abcdef", split, label, "real", float(label), "g")


def _numbered_from(first: int):
    return lambda i, width, height: numbered_picture(first + i, width, height)
