"""What each modality contributes to a model's figures: measured without the others, and shared out exactly."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from trainer.data.altered import AlteredLoader
from trainer.data.batches import Batch
from trainer.data.loader import ClipLoader
from trainer.evaluation.metrics import Figures
from trainer.evaluation.predictions import Predictions

SHUFFLED = "shuffled audio"
SEED = 0  # of the order in which clips get the sound of others


def contributions(
    figures: Callable[[Predictions], Figures],
    evaluate: Callable[..., Predictions],
    loader: ClipLoader,
    predictions: Predictions,
) -> dict[str, dict[str, Figures]]:
    """Figures with both modalities, with either alone, with neither, and with the sound of other clips; and `shapley`.

    figures: of predictions; evaluate: from a loader to predictions; predictions: those of `loader`, with both. A
    modality's Shapley value is the mean of what it adds to the figures alone and beside the other (Shapley, 1953): the
    values add up to what both have over neither.
    """
    found = {"both": figures(predictions)}
    for name, video, audio in (("video", True, False), ("audio", False, True), ("neither", False, False)):
        altered = AlteredLoader(loader, _leaving(video, audio))
        found[name] = figures(evaluate(altered))
    with contextlib.closing(_in_another_order(loader)) as others:
        found[SHUFFLED] = figures(evaluate(SwappedSound(loader, others)))
    return {"figures": found, "shapley": shapley(found)}


def shapley(found: dict[str, Figures]) -> dict[str, Figures]:
    """The Shapley values of video and audio, of each figure that is defined with and without them."""
    both, video, audio, neither = (found[name] for name in ("both", "video", "audio", "neither"))
    values: dict[str, Figures] = {"video": {}, "audio": {}}
    for figure in both:
        four = [each[figure] for each in (both, video, audio, neither)]
        if None in four:
            continue
        whole, by_video, by_audio, empty = four
        values["video"][figure] = ((by_video - empty) + (whole - by_audio)) / 2
        values["audio"][figure] = ((by_audio - empty) + (whole - by_video)) / 2
    return values


def _leaving(video: bool, audio: bool) -> Callable[[Batch], Batch]:
    """Says of the clips of a batch that they have only these modalities."""

    def alter(batch: Batch) -> Batch:
        has_sound = batch.members["mel_present"]
        shown = {"video_present": torch.full_like(has_sound, video), "mel_present": has_sound & audio}
        return dataclasses.replace(batch, members={**batch.members, **shown})

    return alter


def _in_another_order(loader: ClipLoader) -> ClipLoader:
    """The sound of the same clips, shuffled."""
    changed = {
        "numbers": np.random.default_rng(SEED).permutation(loader.numbers),
        "members": ["mel"],
        "shuffle": False,
        "cache": "none",
    }
    return ClipLoader(loader.shards, loader.split, **{**vars(loader.options), **changed})


@dataclass(frozen=True)
class SwappedSound:
    """The clips of a loader with the sound of those of another one."""

    loader: ClipLoader
    others: ClipLoader

    @property
    def shards(self):
        return self.loader.shards

    @property
    def numbers(self) -> np.ndarray:
        return self.loader.numbers

    @property
    def batch_size(self) -> int:
        return self.loader.batch_size

    def batches(self, epoch: int) -> Iterator[Batch]:
        for batch, other in zip(self.loader.batches(epoch), self.others.batches(epoch), strict=True):
            present = other.members["mel_present"]
            is_whole = torch.from_numpy(other.mask).to(present.device)  # of a damaged clip there is no sound
            sound = {"mel": other.members["mel"], "mel_present": present & is_whole}
            yield dataclasses.replace(batch, members={**batch.members, **sound})
