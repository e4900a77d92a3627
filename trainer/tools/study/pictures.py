"""The pictures of a study in memory: real ones, those of synthetic folders, and real ones through the autoencoder."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from shardify.format.words import SPLITS
from trainer.data.batches import Batch
from trainer.data.loader import ClipLoader
from trainer.errors import TrainerError
from trainer.shards.mix import mix_shards
from trainer.shards.shard_cache import ShardCache
from trainer.shards.shard_set import ShardSet, open_shards
from trainer.shards.splits import limit_per_class, synthetic_clips
from trainer.tools.study.arms import Arm

logger = logging.getLogger(__name__)

READ_AT_ONCE, DECODED_AT_ONCE = 256, 64  # pictures
THUMBNAIL = 32  # pixels a side, at which nearest neighbours are looked for


@dataclass(frozen=True)
class Pictures:
    """All pictures of a study: M of S pixels a side, by their places.

    The first places are those of the clips of `shards`; the pictures through the autoencoder, if any, follow.
    """

    shards: ShardSet  # the real folder and the synthetic ones after it
    values: Tensor  # uint8 (M, 3, S, S)
    numbers: np.ndarray  # int64 (M,): which clip each is, or was made of
    num_folders: int  # synthetic ones

    @property
    def labels(self) -> np.ndarray:
        """The class of each picture, int64 (M,)."""
        return self.shards.labels[self.numbers].astype(np.int64)

    def of_split(self, split: str) -> np.ndarray:
        """The places of the real pictures of a split, int64."""
        return self._of_folder(0, split)

    def of_synthetic(self, folder: int) -> np.ndarray:
        """The places of all pictures of a synthetic folder, by its number."""
        return self._of_folder(1 + folder, "train")

    def of_arm(self, arm: Arm, seed: int) -> np.ndarray:
        """The places of the pictures that an arm trains on; which of the synthetic ones, the seed decides."""
        places = [self.of_split("train")] if arm.real else []
        if arm.reconstructed:
            places.append(np.arange(len(self.shards.samples), len(self.values)))
        if arm.folder is not None:
            chosen = self.of_synthetic(arm.folder)
            places.append(limit_per_class(self.shards, chosen, arm.per_class, seed) if arm.per_class else chosen)
        return np.concatenate(places)

    def batch(self, places: np.ndarray, device: torch.device, step: int = 0) -> Batch:
        """A batch of the pictures at these places, int64 (B,), as the loader makes them of clips of one frame.

        step: in training, so that what augmentation draws for a picture is another each time.
        """
        name = self.shards.first_member.name
        values = self.values[torch.from_numpy(places)].to(device, non_blocking=True)[:, None]
        seeds = np.stack([places, np.full_like(places, step)], 1)
        return Batch({name: values}, self.numbers[places], np.ones(len(places), bool), seeds)

    def thumbnails(self, places: np.ndarray) -> np.ndarray:
        """The pictures in THUMBNAIL pixels a side or their own, whichever are fewer, as float32 (N, 3·side·side)."""
        side = min(THUMBNAIL, self.values.shape[-1])
        parts = torch.from_numpy(places).split(READ_AT_ONCE)
        return torch.cat([adaptive_avg_pool2d(self.values[part].float(), side).flatten(1) for part in parts]).numpy()

    def _of_folder(self, folder: int, split: str) -> np.ndarray:
        numbers = self.shards.numbers(split)
        return numbers[self.shards.folder_numbers[numbers] == folder]


def open_folders(real: Path, synthetic: tuple[Path, ...]) -> ShardSet:
    """The real shards with the synthetic ones after them.

    Raises FormatError for what are no shards, TrainerError where they are not such as a study can use.
    """
    cache = ShardCache()
    own = open_shards(real, cache=cache)
    if own.frames != 1:
        raise TrainerError(f"{real}: has clips of {own.frames} frames; a study is of pictures: build with --frames 1")
    if len(own.heads) > 1:
        names = ", ".join(head.name for head in own.heads)
        raise TrainerError(f"{real}: has several labels ({names}); a study is of one: build without the others")
    for split in ("train", "test"):
        if len(own.numbers(split)) == 0:
            raise TrainerError(f"{real}: has no {split} split; a study trains on train and judges on test")
    if count := len(synthetic_clips(own)):
        raise TrainerError(
            f"{real}: {count} of its train pictures are marked as synthetic; build the real ones alone, and pass the "
            f"others by --synthetic"
        )
    others = [_open_synthetic(folder, own, cache) for folder in synthetic]
    mixed = mix_shards([own, *others])
    for note in mixed.notes:
        logger.warning(note)
    return mixed


def _open_synthetic(folder: Path, real: ShardSet, cache: ShardCache) -> ShardSet:
    if folder.is_dir() and not (folder / "index.json").is_file() and any(folder.glob("*/*.png")):
        raise TrainerError(
            f"{folder}: holds pictures, but no shards; make them as the real ones were made: shardify build {folder} "
            f"SHARDS --frames 1 --size {real.size}"
        )
    shards = open_shards(folder, cache=cache)
    if unknown := [name for name in shards.classes if name not in real.classes]:
        raise TrainerError(f"{folder}: has the class {unknown[0]}, which {real.folder} has not; leave it out")
    for split in SPLITS[1:]:
        if count := len(shards.numbers(split)):
            raise TrainerError(
                f"{folder}: has {count} pictures in {split}; synthetic ones are for train alone: build them with "
                f"--val-fraction 0 --test-fraction 0"
            )
    return shards


def read_pictures(shards: ShardSet, reconstruct: Callable[[Tensor], Tensor] | None) -> Pictures:
    """All pictures of folders that `open_folders` has opened. Raises FormatError for a damaged one, TrainerError.

    reconstruct: the autoencoder, from images float32 (B, 3, S, S) in [0, 1] to such images; used on the real ones of
    train.
    """
    numbers = np.arange(len(shards.samples))
    values = torch.empty((len(numbers), 3, shards.size, shards.size), dtype=torch.uint8)
    loader = ClipLoader(shards, "train", READ_AT_ONCE, shuffle=False, numbers=numbers)
    with contextlib.closing(loader):
        for batch in loader.batches(epoch=0):
            values[torch.from_numpy(batch.numbers)] = batch.clips[:, 0]
    pictures = Pictures(shards, values, numbers, max(0, len(shards.parts) - 1))
    if reconstruct is None:
        return pictures
    train = pictures.of_split("train")
    made = [reconstruct(values[part].float() / 255).cpu() for part in torch.from_numpy(train).split(DECODED_AT_ONCE)]
    made = (torch.cat(made) * 255).round().byte()
    if made.shape[1:] != values.shape[1:]:
        raise TrainerError(f"--vae: gives pictures of {tuple(made.shape[2:])} pixels for those of {shards.size}")
    return Pictures(shards, torch.cat([values, made]), np.concatenate([numbers, train]), pictures.num_folders)
