"""A request for a build: what is read, what is written, and how, as one value."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from shardify.build.remote import sources, target
from shardify.build.remote.sources import Sources
from shardify.build.remote.target import Target
from shardify.format.settings import BuildSettings
from shardify.sources.catalog import Catalog, list_sources


@dataclass(frozen=True)
class Changes:
    """Which of the earlier results to give up. Without any of them, shards stay as they were built."""

    retry_failed: bool = False
    prune: bool = False  # of sources that are gone
    rebuild_changed: bool = False


@dataclass(frozen=True)
class BuildRequest:
    """All that a build, or an estimate of one, is asked for."""

    data: Path  # the folder that holds the videos; or one with their names, where `sources` fetches them
    out: Path | None  # the shards folder; an estimate can do without
    settings: BuildSettings = field(default_factory=BuildSettings)
    _: KW_ONLY
    manifest: Path | None = None  # CSV that lists the videos, instead of folders
    layout: str = "auto"  # what the folders mean, one of sources.layouts
    split_file: Path | None = None  # a list of the official split
    boxes: Path | None = None  # CSV of crop boxes
    faces_model: Path | None = None  # the YuNet file whose hash stands in the settings
    changes: Changes = field(default_factory=Changes)
    workers: int | None = None  # decoding processes; None: one per usable core, or four for each task of a cluster
    timeout_seconds: float = 600.0  # CPU time that one video may take
    sources: Sources = sources.LOCAL  # where the videos lie
    target: Target = target.LOCAL  # where the shards are kept
    on: str | None = None  # `ray` or `ray:ADDRESS`: the cluster that builds; None: this machine

    def list_sources(self) -> Catalog:
        """The inputs. Raises UsageError and NothingToBuildError."""
        return list_sources(self.data, self.manifest, self.layout, self.split_file)
