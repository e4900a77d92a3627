"""The task of latent diffusion: what it reads and draws, and what it keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from shardify.format.members import Member
from shardify.format.members.latent import Latent
from shardify.format.records import Head
from trainer.config.settings import Settings
from trainer.data.batches import Batch
from trainer.errors import FormatError, SettingsError
from trainer.shards.shard_set import ShardSet
from trainer.tasks.base import Validated
from trainer.tasks.diffusion.model import QUARTERS, LatentDiffusion
from trainer.tasks.diffusion.settings import DiffusionSettings
from trainer.tasks.diffusion.sheet import Real, read_real, sample_sheet
from trainer.tasks.generative import GenerativeTask

OF_TRAINING, OF_EVALUATION = range(2)  # streams of random numbers
GOLDEN = (5**0.5 - 1) / 2  # its multiples fill the numbers from 0 to 1 evenly, however many they are


class Diffusion(GenerativeTask):
    """The task that learns to make latents of each class out of noise."""

    train_metrics: ClassVar = {
        f"{what}_q{quarter + 1}": f"{what}_q{quarter + 1}" for what in ("loss", "clips") for quarter in range(QUARTERS)
    }
    draws_samples = True
    instead = "holds a diffusion model, which predicts no labels; make pictures by it with python -m trainer.generate"

    def __init__(self, settings: Settings, heads: Sequence[Head], members: Mapping[str, Member]) -> None:
        self._heads, self._members = heads, members
        self._real: Real | None = None  # what sheets compare samples with
        if members and not isinstance(members.get("latent"), Latent):
            raise FormatError(
                "the clips of these shards have no latents, which model.name=diffusion learns; make a folder that has "
                "them with python -m trainer.encode"
            )
        super().__init__(settings, heads, members)

    def check_settings(self, settings: Settings) -> None:
        super().check_settings(settings)
        for name in ("frames", "size"):
            if value := getattr(settings.data, name):
                raise SettingsError(f"data.{name} is {value}, but latents have the size that they have; leave it out")
        if settings.model.predict == "noise" and settings.model.schedule == "cosine":
            raise SettingsError(
                "model.predict is noise, but model.schedule=cosine ends in noise alone, of which no latents can be "
                "computed; use model.predict=v or model.schedule=linear"
            )
        every = settings.interval
        if not every:
            raise SettingsError(
                "steps is none, but model.name=diffusion counts in steps, as its monitoring does; set steps and "
                "checkpoint_every_steps, as in configs/diffusion.yaml"
            )
        for step in settings.model.keep_steps:
            if step <= settings.steps and step % every:
                raise SettingsError(
                    f"model.keep_steps has {step}, but validations come every {every} steps (checkpoint_every_steps); "
                    f"keep multiples of that"
                )

    def read_members(self, shards: ShardSet) -> list[str]:
        return ["latent"]

    # the model

    def build_model(self, settings: DiffusionSettings, num_classes: int, size: int) -> nn.Module:
        _, height, width = self.latent.shape
        return LatentDiffusion(settings, num_classes, (self.latent.channels, height, width))

    def fit(self, model: nn.Module, shards: ShardSet, numbers: np.ndarray) -> None:
        """Take over the latents' mean and deviation over train, as index.json has them."""
        for values, found in zip((model.mean, model.std), self.statistics(), strict=True):
            values.copy_(torch.from_numpy(found)[:, None, None])

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean and the deviation by which latents are standardised, float32 (C,) each."""
        mean, std = np.array(self.latent.mean), np.array(self.latent.std)
        if self.settings.model.posterior == "sample":  # what is drawn varies around the posteriors' means, too
            std = np.hypot(std, self.latent.posterior_std)
        if self.settings.model.normalise == "scalar":  # over all channels at once
            std = np.full_like(std, np.sqrt((std**2).mean() + mean.var()))
            mean = np.full_like(mean, mean.mean())
        elif self.settings.model.normalise == "none":
            mean, std = np.zeros_like(mean), np.ones_like(std)
        return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)

    @property
    def latent(self) -> Latent:
        return self._members["latent"]

    def training_inputs(
        self, batch: Batch, labels: Tensor, epoch: int, draws: np.ndarray, blended: np.ndarray
    ) -> tuple[Tensor, ...]:
        """Moments, labels, timesteps, noise and the posterior's draws, as the model takes them.

        All that is drawn follows from (seed, epoch, the clip's number, how often it came before).
        """
        model = self.settings.model
        rngs = [np.random.default_rng([OF_TRAINING, self.settings.seed, epoch, *own]) for own in batch.seeds]
        timesteps = np.array([rng.integers(model.timesteps) for rng in rngs])
        is_dropped = np.array([rng.random() for rng in rngs]) < model.label_dropout
        noise = self._noise(rngs, batch.clips.device)
        no_label = len(self._heads[0].classes)
        labels = labels.masked_fill(_on(is_dropped, labels.device), no_label)
        return batch.clips, labels, _on(timesteps, labels.device), *noise

    def evaluation_inputs(self, batch: Batch, labels: Tensor, places: np.ndarray) -> tuple[Tensor, ...]:
        """The same, with the draws of a clip's place: alike in every evaluation, and on train and on val."""
        rngs = [np.random.default_rng([OF_EVALUATION, self.settings.seed, place]) for place in places]
        timesteps = ((0.5 + GOLDEN * places) % 1 * self.settings.model.timesteps).astype(np.int64)
        return batch.clips, labels, _on(timesteps, labels.device), *self._noise(rngs, batch.clips.device)

    def _noise(self, rngs: list[np.random.Generator], device: torch.device) -> tuple[Tensor, Tensor]:
        """Two times standard normal noise, float32 (B, C, h, w)."""
        shape = (2, self.latent.channels, *self.latent.shape[1:])
        drawn = np.stack([rng.standard_normal(shape, np.float32) for rng in rngs])
        noise, posterior = _on(drawn, device).unbind(1)
        return noise, posterior

    # figures

    def clip_values(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        loss, quarter = outputs.unbind(1)
        found = {}
        for number in range(QUARTERS):
            found |= {f"loss_q{number + 1}": loss * (quarter == number), f"clips_q{number + 1}": quarter == number}
        return found

    def train_figures(self, sums: dict[str, float]) -> dict[str, float]:
        """The mean loss, and that in each quarter of the timesteps, q1 with the least noise."""
        quarters = [f"_q{number + 1}" for number in range(QUARTERS)]
        return {f"train_loss{part}": sums[f"loss{part}"] / max(sums[f"clips{part}"], 1) for part in ("", *quarters)}

    def history_columns(self) -> list[str]:
        quarters = [f"train_loss_q{number + 1}" for number in range(QUARTERS)]
        return ["train_loss", *quarters, "train_loss_fixed", "val_loss"]

    # what is kept

    def saved_module(self, model: nn.Module) -> nn.Module:
        return model.unet

    def about(self, model: nn.Module, shards: ShardSet) -> dict:
        return {
            "classes": shards.classes,
            "mean": model.mean.flatten().tolist(),  # by which latents were standardised
            "std": model.std.flatten().tolist(),
            "latent": self.latent.to_dict(),  # of the shards' index.json, with the autoencoder's record
            "shards": shards.fingerprint,
        }

    def names(self, validated: Validated) -> list[str]:
        step = validated.steps[1]
        kept = [f"step-{step:08d}"] if step in self.settings.model.keep_steps else []
        return [*super().names(validated), *kept]

    def after_validation(self, out: Path, validated: Validated) -> dict[str, float]:
        super().after_validation(out, validated)
        every, (before, now) = self.settings.model.sample_every_steps, validated.steps
        if not every or before // every == now // every:
            return {}
        model, shards = validated.model, validated.shards
        if self._real is None:  # read once in a run
            self._real = read_real(shards, validated.numbers, model)
        return sample_sheet(model, shards, self._real, self.settings.seed, out / "samples" / f"step-{now:08d}")


def _on(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(values).to(device, non_blocking=True)
