"""A job, which is one video to be turned into clips, and the row that is left where that fails."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shardify.sources.fingerprint import source_bytes
from shardify.sources.source import SoundFile
from shardify.video.piece import Piece
from shardify.video.resize import Box

SOUND_FILE_FAILED = "its sound file"  # how the reason begins


@dataclass(frozen=True)
class Job:
    """One video to be turned into clips, with all that is known before it is opened."""

    path: Path
    source: str
    key: str
    split: str
    labels: dict[str, int]  # class index by head, the primary one first; -1: no label
    classes: dict[str, str]  # the names of these classes; empty: no label
    target: float
    group: str
    box: Box | None = None
    kind: str = ""  # what made it, where that is known
    original: str = ""  # the source that a fake was made from
    piece: Piece | None = None  # the part of the video that `source` names; None: all of it
    sound: SoundFile | None = None  # beside the video; None: the video's own

    @property
    def label(self) -> int:
        """The class index of the primary head."""
        return next(iter(self.labels.values()))

    @property
    def class_name(self) -> str:
        """The class of the primary head."""
        return next(iter(self.classes.values()))


def failed_row(job: Job, error: str) -> dict:
    """The row of an input that gave no clip."""
    return {
        "key": job.key,
        "source": job.source,
        "source_bytes": source_bytes(job.path),
        "split": job.split,
        "label": job.label,
        "class": job.class_name,
        "target": job.target,
        "group": job.group,
        "kind": job.kind,
        "original": job.original,
        **sound_columns(job),
        **{f"label.{name}": label for name, label in job.labels.items()},
        "status": "failed",
        "error": " ".join(error.split()),
    }


def sound_columns(job: Job) -> dict:
    """What a row says of the file that the sound comes from."""
    return {"audio": job.sound.name if job.sound else "", "audio_offset": job.sound.offset if job.sound else 0.0}
