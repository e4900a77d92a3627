"""Pairs of clips: a fake, and the real clip that it was made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shardify.format.words import meaning_of
from trainer.errors import SettingsError
from trainer.shards.shard_set import ShardSet, videos_of


@dataclass(frozen=True)
class Pairs:
    """All pairs of some clips, in which each of these clips stands at least once."""

    numbers: np.ndarray  # int64 (P, 2): a real clip and a fake
    fakes: int  # how many there are
    strangers: int  # of those, how many stand beside a real clip that they were not made from

    def note(self) -> str:
        """How many fakes have found their original, in words."""
        if not self.strangers:
            return f"data.pairs: each of the {self.fakes} fakes stands beside its original"
        return (
            f"data.pairs: {self.fakes - self.strangers} of {self.fakes} fakes stand beside their original; that of the "
            "others is unknown or not in train, so they stand beside other real clips"
        )


def real_and_fake(classes: list[str], setting: str) -> tuple[int, int]:
    """The indices of the classes that mean real and fake. Raises SettingsError where these are not the two classes."""
    meanings = [meaning_of(name) for name in classes]
    if sorted(map(str, meanings)) != ["fake", "real"]:
        raise SettingsError(
            f"{setting} needs two classes, one named real and one fake (or original and manipulated, and the like); "
            f"these shards have {', '.join(classes)}"
        )
    return meanings.index("real"), meanings.index("fake")


def find_pairs(shards: ShardSet, numbers: np.ndarray) -> Pairs:
    """The pairs among the clips of these numbers, int64 (N,), which have both classes. Raises SettingsError.

    The k-th clip of a fake stands beside the k-th one of its original, which shows the same time. Where an original is
    not known, or none of its clips is here, first those real clips fill its place that no fake was made from. Real
    clips that are left stand beside other fakes.
    """
    real, fake = real_and_fake(shards.classes, "data.pairs")
    numbers = np.sort(numbers)  # plan order: the clips of a video in the order of their times
    reals, fakes = (numbers[shards.labels[numbers] == label] for label in (real, fake))
    if not len(reals) or not len(fakes):
        raise SettingsError("data.pairs needs real clips and fakes to train on; one of them is missing here")
    originals = _originals(shards, reals, fakes)
    is_stranger = originals < 0
    lonely = np.setdiff1d(reals, originals)
    originals[is_stranger] = np.resize(lonely if len(lonely) else reals, is_stranger.sum())
    left = np.setdiff1d(lonely, originals)
    pairs = [np.stack((originals, fakes), 1), np.stack((left, np.resize(fakes, len(left))), 1)]
    return Pairs(np.concatenate(pairs), len(fakes), int(is_stranger.sum()))


def _originals(shards: ShardSet, reals: np.ndarray, fakes: np.ndarray) -> np.ndarray:
    """The real clip beside each fake, int64 (F,), -1 where there is none."""
    if "original" not in shards.samples.dtype.names:  # version 1
        return np.full(len(fakes), -1)
    clips: dict[int, list[int]] = {}  # of each real video
    for number, video in zip(reals.tolist(), videos_of(shards, reals).tolist(), strict=True):
        clips.setdefault(video, []).append(number)
    found, seen = [], {}
    videos, originals = videos_of(shards, fakes).tolist(), shards.samples["original"][fakes].tolist()
    for video, original in zip(videos, originals, strict=True):
        place = seen[video] = seen.get(video, -1) + 1
        own = clips.get(original, [-1])
        found.append(own[place % len(own)])
    return np.array(found, np.int64)
