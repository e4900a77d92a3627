"""Synthetic pictures among the inputs: they are for training alone, wherever they lie."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from shardify.errors import VideoError
from shardify.format.synthetic import KIND, is_synthetic
from shardify.sources.entries import is_picture_name
from shardify.sources.source import Source
from shardify.video.container import open_regular_file


def find_synthetic(sources: list[Source], packed: Collection[str]) -> list[Source]:
    """The sources, new ones that are synthetic marked as such; with an error where they are given to val or test.

    They are by the manifest's column `synthetic`, or by the mark in their files. packed: sources that an earlier build
    has dealt with, whose files are not opened again.
    """
    return [source if source.source in packed or source.error else _marked(source) for source in sources]


def _marked(source: Source) -> Source:
    if not (source.is_synthetic or (is_picture_name(source.path) and _has_mark(source.path))):
        return source
    error = None
    if source.split not in (None, "train"):
        error = f"is synthetic, and {source.split} is for real ones alone; move it to train, or leave it out"
    return replace(source, is_synthetic=True, kind=KIND, error=error)


def _has_mark(path: Path) -> bool:
    """False where the file cannot be read, of which decoding will say more."""
    with contextlib.suppress(VideoError, OSError), open_regular_file(path) as file:
        return is_synthetic(file)
    return False
