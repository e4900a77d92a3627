"""The contract of a task that learns to make clips, or what stands for them: it has losses, and predicts no labels."""

from __future__ import annotations

import dataclasses
import json
import shutil
from abc import abstractmethod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from shardify.storage.local import file_sha256
from trainer.config.settings import LOSSES, NO_AUGMENTATION, AugmentSettings, Settings
from trainer.errors import SettingsError
from trainer.evaluation.metrics import Figures
from trainer.evaluation.predictions import Predictions
from trainer.models.autoencoders.load import ABOUT, WEIGHTS
from trainer.shards.shard_set import ShardSet
from trainer.tasks.base import Loss, Task, Validated


class GenerativeTask(Task):
    """A task whose model computes its own loss: outputs (B, 1 + …) begin with the loss of each clip.

    It is a model of diffusers, kept by `save_pretrained` in models/: `last`, and `best` by the loss on validation.
    """

    compares_train = True
    instead: str  # what to do with its model, for commands that need predictions

    @property
    def asked_by(self) -> str:
        return f"model.name={self.settings.model.name}"

    def check_settings(self, settings: Settings) -> None:
        """Raises SettingsError for settings of what is not done here: labels, their loss, augmentation."""
        if settings.augment not in (AugmentSettings(), NO_AUGMENTATION):
            own = vars(settings.augment)
            changed = next(name for name, value in vars(AugmentSettings()).items() if own[name] != value)
            raise SettingsError(
                f"augment.{changed} is {own[changed]}, but nothing is augmented with {self.asked_by}; leave it out"
            )
        if settings.loss != next(iter(LOSSES.values()))():
            raise SettingsError(f"loss.name is {settings.loss.name}, but {self.asked_by} has its own; leave it out")
        if settings.calibrate:
            raise SettingsError(f"calibrate is true, but {self.asked_by} learns no classes; leave it out")

    def resolve(self, settings: Settings, device: torch.device) -> tuple[Settings, list[str]]:
        return dataclasses.replace(settings, augment=NO_AUGMENTATION), []

    def labels(self, shards: ShardSet) -> np.ndarray:
        """The classes, which the model may be told."""
        return shards.labels.astype(np.int64)

    def check_data(
        self, settings: Settings, shards: ShardSet, splits: dict[str, np.ndarray]
    ) -> tuple[Settings, list[str]]:
        return dataclasses.replace(settings, metric="loss"), []

    def build_loss(self, model: nn.Module, class_counts: np.ndarray, device: torch.device) -> Loss:
        return lambda outputs, labels: outputs[:, 0].float()

    def clip_values(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {}

    def figures(self, predictions: Predictions, threshold: float | None = None) -> Figures:
        return {}

    def history_columns(self) -> list[str]:
        return [*super().history_columns(), "train_loss_fixed"]

    def history_curves(self, metric: str) -> list[str]:
        return ["train_loss_fixed", "val_loss"]

    @abstractmethod
    def saved_module(self, model: nn.Module) -> nn.Module:
        """The model of diffusers in the one that is trained."""

    @abstractmethod
    def about(self, model: nn.Module, shards: ShardSet) -> dict:
        """What is needed to use the saved model, as plain values."""

    def names(self, validated: Validated) -> list[str]:
        """The folders in models/ that the model of a validation is kept in."""
        return ["last", *(["best"] if validated.is_best else [])]

    def after_validation(self, out: Path, validated: Validated) -> dict[str, float]:
        model, about = validated.model, {"step": validated.steps[1], "settings": self.settings.to_dict()}
        about |= self.about(model, validated.shards)
        for name in self.names(validated):
            save_folder(self.saved_module(model), out / "models" / name, about)
        return {}


def save_folder(module: nn.Module, folder: Path, about: dict) -> None:
    """Write a model of diffusers and `about` it, with its weights' SHA-256, in place of what the folder held."""
    temporary = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    module.save_pretrained(temporary)
    about = {**about, "weights_sha256": file_sha256(temporary / WEIGHTS)}
    (temporary / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
