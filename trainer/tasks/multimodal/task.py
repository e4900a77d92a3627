"""The task of video and sound, with one head or with several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from shardify.format.members import Member
from shardify.format.records import Head
from trainer.config.settings import Settings
from trainer.data.batches import Values
from trainer.data.loader import ClipLoader
from trainer.errors import FormatError, SettingsError
from trainer.evaluation.predictions import Predictions
from trainer.tasks.classification.settings import ClassificationLoss
from trainer.tasks.classification.several_heads import SeveralHeads
from trainer.tasks.classification.task import Classification
from trainer.tasks.multimodal.contribution import contributions
from trainer.tasks.multimodal.model import MultimodalModel
from trainer.tasks.multimodal.resolve import resolve_encoders
from trainer.tasks.multimodal.settings import MultimodalSettings
from trainer.tasks.predicting import PredictingTask
from trainer.transforms.spectrogram import augment_mel, draw


class _VideoAndSound(PredictingTask):
    """What makes a task of classification one of video and sound: the members it reads, its model and its inputs."""

    further_files = ("contribution.json",)

    def __init__(self, settings: Settings, heads: Sequence[Head], members: Mapping[str, Member]) -> None:
        self._heads, self._members = heads, members
        self._hears = "audio" in settings.model.modalities
        self.other_members = ("mel",) if self._hears else ()
        if self._hears and members and "mel" not in members:
            raise FormatError(
                "the clips of these shards have no sound; build them with --audio auto, or train with "
                "model.modalities=[video]"
            )
        super().__init__(settings, heads, members)

    def check_settings(self, settings: Settings) -> None:
        if not isinstance(settings.loss, ClassificationLoss):
            raise SettingsError(
                f"loss.name is {settings.loss.name}, but model.name=multimodal learns classes; use cross_entropy"
            )
        super().check_settings(settings)

    def resolve(self, settings: Settings, device: torch.device) -> tuple[Settings, list[str]]:
        return resolve_encoders(settings, device)

    def build_model(self, settings: MultimodalSettings, num_classes: int, size: int) -> nn.Module:
        frames = self.settings.data.frames or next(iter(self._members.values())).shape[0]
        outputs = sum(len(head.classes) for head in self._heads)
        return MultimodalModel(settings, outputs, frames, size, self._members.get("mel"))

    def inputs(
        self, clips: Tensor, members: Values, epoch: int | None = None, seeds: np.ndarray | None = None
    ) -> tuple[Tensor, ...]:
        """clips, mel and, of each clip, whether video and sound are there: bool (B, 2); clips alone without audio.

        members: `mel`, `mel_present` and, to leave it out, `video_present`.
        """
        if not self._hears:
            return (clips,)
        mel, has_sound = members["mel"].float(), members["mel_present"]
        has_video = members.get("video_present", torch.ones_like(has_sound))
        if seeds is not None:
            draws = torch.from_numpy(draw(self.settings.seed, epoch, seeds)).to(mel.device, non_blocking=True)
            mel = augment_mel(mel, self.settings.augment, draws[:, :5])
            has_video, has_sound = self._drop(has_video, has_sound, draws[:, 5], draws[:, 6])
        return clips, mel, torch.stack((has_video, has_sound), dim=1)

    def attention(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return model.attention(*inputs)

    def further_results(
        self, evaluate: Callable[..., Predictions], loader: ClipLoader, predictions: Predictions,
        threshold: float | None,
    ) -> dict[str, dict]:  # fmt: skip
        if len(self.settings.model.modalities) < 2:
            return {}
        found = contributions(partial(self.figures, threshold=threshold), evaluate, loader, predictions)
        return dict.fromkeys(self.further_files, found)

    def _drop(self, has_video: Tensor, has_sound: Tensor, chance: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """Leave one modality out of a share of the clips that have both; chance, which: draws in [0, 1), (B,)."""
        drops = (chance < self.settings.model.modality_dropout) & has_video & has_sound
        return has_video & ~(drops & (which < 0.5)), has_sound & ~(drops & (which >= 0.5))


class Multimodal(_VideoAndSound, Classification):
    """The task that learns one head from video and sound."""


class MultimodalHeads(_VideoAndSound, SeveralHeads):
    """The task that learns several heads from video and sound."""
