"""How a saved model's main figure changes on clips that are compressed, blurred, made smaller or noisy."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from shardify.text import duration
from trainer.data.altered import AlteredLoader
from trainer.data.batches import Batch
from trainer.data.loader import ClipLoader
from trainer.devices.distributed import Group
from trainer.evaluation.predictions import Predictions
from trainer.saved_model import SavedModel
from trainer.tasks.levels import LEVELS, scored_levels
from trainer.tools.scoring import DataSet, predict_split, split_loader
from trainer.transforms.clips import to_float
from trainer.transforms.degrade import batch_blur, batch_downscale, batch_jpeg, batch_noise

logger = logging.getLogger(__name__)

AT_ONCE = 4  # clips that are degraded at a time: JPEG's blocks take several times their memory

Degrade = Callable[[Tensor, Tensor, Tensor], Tensor]  # clips float (B, T, 3, S, S), strength and seed (B,) of each


@dataclass(frozen=True)
class Degradation:
    """A way in which clips get worse."""

    apply: Degrade
    strengths: tuple[float, ...]  # from the least on
    none: float | None = None  # the strength at which clips stay as they are


DEGRADATIONS = {
    "jpeg": Degradation(lambda clips, quality, _: batch_jpeg(clips, quality), tuple(range(100, 0, -10))),
    "blur": Degradation(lambda clips, sigma, _: batch_blur(clips, sigma), (0, 0.5, 1, 1.5, 2, 2.5, 3), none=0),
    "downscale": Degradation(lambda clips, times, _: batch_downscale(clips, times), (1, 2, 4, 8), none=1),
    "noise": Degradation(batch_noise, (0, 0.02, 0.05, 0.1, 0.2), none=0),
}  # fmt: skip


def degraded(loader: ClipLoader, apply: Degrade, strength: float) -> AlteredLoader:
    """A loader whose clips get worse."""
    return AlteredLoader(loader, partial(degrade, apply, strength))


def degrade(apply: Degrade, strength: float, batch: Batch) -> Batch:
    """A batch whose clips are worse, as uint8, before the model's own transforms; the same in every pass."""
    seeds = torch.from_numpy(batch.numbers.astype(np.int32)).to(batch.clips.device)

    def worsen(clips: Tensor, seeds: Tensor) -> Tensor:
        strengths = torch.full((len(clips),), float(strength), device=clips.device)
        return apply(to_float(clips), strengths, seeds).mul(255).round().to(torch.uint8)

    pieces = zip(batch.clips.split(AT_ONCE), seeds.split(AT_ONCE), strict=True)
    first = next(iter(batch.members))
    return replace(batch, members=batch.members | {first: torch.cat([worsen(*piece) for piece in pieces])})


def robustness(
    saved: SavedModel, data_set: DataSet, split: str, group: Group
) -> dict[str, dict[float, dict[str, float | None]]]:
    """degradation: its strengths: the task's main figure by clip and by video; one pass over the split for each.

    Decoded clips stay in memory where they fit.
    """
    passes = [
        (name, strength) for name, kind in DEGRADATIONS.items() for strength in kind.strengths if strength != kind.none
    ]
    whole = headline_by_level(saved, data_set, data_set.predictions)
    found = {name: {s: whole for s in kind.strengths if s == kind.none} for name, kind in DEGRADATIONS.items()}
    begin = time.monotonic()
    with contextlib.closing(split_loader(saved, data_set.shards, split, group, cache="auto")) as loader:
        for done, (name, strength) in enumerate(passes, 1):
            worse = degraded(loader, DEGRADATIONS[name].apply, strength)
            found[name][strength] = headline_by_level(saved, data_set, predict_split(saved, worse, group))
            left = (len(passes) - done) * (time.monotonic() - begin) / done
            logger.info(f"{data_set.name}: {name} {strength:g}, {done} of {len(passes)} passes, {duration(left)} left")
    return found


def headline_by_level(saved: SavedModel, data_set: DataSet, predictions: Predictions) -> Mapping[str, float | None]:
    task = saved.task
    levels = zip(LEVELS, scored_levels(task, predictions, data_set.shards, data_set.rows), strict=True)
    return {level: task.measure(items, None, with_intervals=False)[task.headline]["value"] for level, items in levels}
