"""The task of autoencoders: pictures become latents, from which they can be made again."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from trainer.config.settings import Settings
from trainer.data.batches import Batch
from trainer.evaluation.metrics import Figures, psnr
from trainer.evaluation.predictions import Predictions
from trainer.shards.shard_set import ShardSet
from trainer.tasks.autoencoder.model import TrainedAutoencoder, downsampling
from trainer.tasks.autoencoder.settings import AutoencoderSettings
from trainer.tasks.generative import GenerativeTask
from trainer.transforms.clips import to_float

ON_A_GPU, ON_A_CPU = [32, 64, 128, 128], [8, 16, 32]  # model.level_channels: 3.9 and 0.17 million weights


class Autoencoder(GenerativeTask):
    """The task that learns to make small latents of pictures, and the pictures again."""

    train_metrics: ClassVar = {"mse": "mse", "divergence": "divergence"}
    history = ("psnr",)
    instead = "holds an autoencoder, which predicts no labels; pass its folder in models/ to --vae of trainer.encode"

    def resolve(self, settings: Settings, device: torch.device) -> tuple[Settings, list[str]]:
        settings, notes = super().resolve(settings, device)
        if settings.model.level_channels == "auto":
            channels = ON_A_GPU if device.type == "cuda" else ON_A_CPU
            settings = dataclasses.replace(settings, model=dataclasses.replace(settings.model, level_channels=channels))
        return settings, notes

    # the model

    def build_model(self, settings: AutoencoderSettings, num_classes: int, size: int) -> nn.Module:
        return TrainedAutoencoder(settings, size)

    def training_inputs(
        self, batch: Batch, labels: Tensor, epoch: int, draws: np.ndarray, blended: np.ndarray
    ) -> tuple[Tensor, ...]:
        """Pictures, and the posterior's draws, which follow from (seed, epoch, the clip's number, its repetition)."""
        pictures = self._pictures(batch)
        rngs = [np.random.default_rng([self.settings.seed, epoch, *own]) for own in batch.seeds]
        drawn = np.stack([rng.standard_normal(self._latent_shape(pictures), np.float32) for rng in rngs])
        return pictures, torch.from_numpy(drawn).to(pictures.device, non_blocking=True)

    def evaluation_inputs(self, batch: Batch, labels: Tensor, places: np.ndarray) -> tuple[Tensor, ...]:
        """Pictures, and zeros: the posterior's mean is decoded."""
        pictures = self._pictures(batch)
        return pictures, torch.zeros(len(pictures), *self._latent_shape(pictures), device=pictures.device)

    def _pictures(self, batch: Batch) -> Tensor:
        """float32 (B, T, 3, S, S) in −1 to 1."""
        data = self.settings.data
        return to_float(batch.clips, data.frames, data.size) * 2 - 1

    def _latent_shape(self, pictures: Tensor) -> tuple[int, ...]:
        """(T, C, h, w)"""
        side = pictures.shape[-1] // downsampling(self.settings.model)
        return pictures.shape[1], self.settings.model.latent_channels, side, side

    # figures

    def clip_values(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        _, mse, divergence = outputs.unbind(1)
        return {"mse": mse, "divergence": divergence}

    def figures(self, predictions: Predictions, threshold: float | None = None) -> Figures:
        return {"psnr": psnr(float(predictions.outputs[:, 1].mean()))}

    # what is kept

    def saved_module(self, model: nn.Module) -> nn.Module:
        return model.vae

    def about(self, model: nn.Module, shards: ShardSet) -> dict:
        """`trained_on` becomes part of what is encoded by it."""
        return {"trained_on": f"train of the shards with samples.npy {shards.fingerprint}"}
