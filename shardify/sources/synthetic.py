"""Synthetic pictures among the inputs: they are for training alone, wherever they lie."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path

from shardify.errors import UsageError
from shardify.format.synthetic import KIND
from shardify.sources.entries import is_picture_name
from shardify.sources.source import Source


def find_synthetic(
    sources: list[Source], packed: Collection[str], are_synthetic: Callable[[Sequence[Path]], Iterable[bool]]
) -> list[Source]:
    """The sources, new ones that are synthetic marked as such; with an error where they are given to val or test.

    They are by the manifest's column `synthetic`, or by the mark in their files. packed: sources that an earlier build
    has dealt with, whose files are not opened again. are_synthetic: whether pictures have the mark. Raises UsageError
    where another new source has the kind by which the clips of synthetic ones are known.
    """

    def is_new(source: Source) -> bool:
        return not (source.source in packed or source.error)

    pictures = [s.path for s in sources if is_new(s) and not s.is_synthetic and is_picture_name(s.path)]
    marked = set(compress(pictures, are_synthetic(pictures)))
    found = [_for_training(s) if is_new(s) and (s.is_synthetic or s.path in marked) else s for s in sources]
    for source in found:
        if is_new(source) and source.kind == KIND and not source.is_synthetic:
            raise UsageError(
                f"{source.source}: its kind is {KIND}, the word for inputs that a model has made, which are for "
                f"training alone; say so of such ones in the manifest's column synthetic (yes), or use another word"
            )
    return found


def _for_training(source: Source) -> Source:
    error = None
    if source.split not in (None, "train"):
        error = f"is synthetic, and {source.split} is for real ones alone; move it to train, or leave it out"
    return replace(source, is_synthetic=True, kind=KIND, error=error)
