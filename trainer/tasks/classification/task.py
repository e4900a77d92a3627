"""Classification: the model by its name, and what the classes of each split allow."""

from __future__ import annotations

import dataclasses

import numpy as np
from torch import nn

from trainer.config.settings import ModelSettings, Settings
from trainer.data.shard_set import ShardSet
from trainer.errors import FormatError, SettingsError
from trainer.evaluation.metrics import classification_metrics, regression_metrics
from trainer.models.custom import build_custom
from trainer.tasks.classification.resnet_lstm import ResNetLSTM
from trainer.tasks.regression.task import targets_of


def build_model(settings: ModelSettings, num_classes: int, size: int = 224) -> nn.Module:
    """A module that maps (B, T, 3, S, S) normalised floats, S = `size` pixels, to (B, num_classes) logits.

    Raises SettingsError where the settings do not fit each other, or the weights cannot be had.
    """
    if settings.name == "resnet_lstm":
        if settings.options:
            raise SettingsError("model.options belong to a model of your own; resnet_lstm has settings instead")
        return ResNetLSTM(num_classes, settings, size)
    return build_custom(settings, num_classes)


def check_classes(settings: Settings, shards: ShardSet, splits: dict[str, np.ndarray]) -> tuple[Settings, list[str]]:
    """A note on each split that lacks classes; where the metric is undefined on val, the loss chooses the best epoch.

    Raises FormatError where train has one class.
    """
    if settings.loss.is_regression:
        notes, targets = {}, targets_of(shards, splits["val"])
        perfect = regression_metrics(targets, targets)
    else:
        notes, labels = _missing_classes(shards, splits), shards.samples["label"][splits["val"]]
        perfect = classification_metrics(labels, np.eye(len(shards.classes))[labels])
    if perfect.get(settings.metric, 0) is None:
        why = notes.get("val", "val's targets are all the same")
        notes["val"] = f"{why}: {settings.metric} is undefined there, so the best epoch is chosen by val's loss"
        settings = dataclasses.replace(settings, metric="loss")
    return settings, list(notes.values())


def _missing_classes(shards: ShardSet, splits: dict[str, np.ndarray]) -> dict[str, str]:
    """split → what it lacks."""
    counts = {split: class_counts(shards, numbers) for split, numbers in splits.items()}
    present = np.flatnonzero(counts["train"])
    if len(present) < 2:
        what, remedy = "train", "build shards with two or more there, or learn the targets with loss.name=mse"
        if np.count_nonzero(class_counts(shards, shards.numbers("train"))) > 1:
            what, remedy = "what is left of train once val is held out", "build a val split of other videos"
        raise FormatError(f"{shards.folder}: {what} has one class, {shards.classes[present[0]]}; {remedy}")
    missing = {split: [shards.classes[k] for k in np.flatnonzero(count == 0)] for split, count in counts.items()}
    return {split: f"{split} has no clips of {', '.join(names)}" for split, names in missing.items() if names}


def class_counts(shards: ShardSet, numbers: np.ndarray) -> np.ndarray:
    """Clips of each class among these numbers, int64 (K,)."""
    return np.bincount(shards.samples["label"][numbers], minlength=len(shards.classes))
