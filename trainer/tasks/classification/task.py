"""The task of classification: its labels, model, loss, figures and report."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from trainer.config.settings import ModelSettings, Settings
from trainer.data.shard_set import ShardSet, class_counts
from trainer.errors import FormatError, SettingsError, TrainerError
from trainer.evaluation.metrics import (
    Figures,
    best_threshold,
    classification_intervals,
    classification_metrics,
    mean_by_video,
    predict,
    softmax,
)
from trainer.evaluation.predictions import Predictions, ReportPart
from trainer.models.build import build_model
from trainer.tasks.base import Loss, Task
from trainer.tasks.classification.losses import build_loss
from trainer.tasks.classification.results import MEANINGS, baseline_line, decision_line, rank_worst, table

logger = logging.getLogger(__name__)


class Classification(Task):
    """The task that learns the class of a clip, by logits (B, K), K the number of classes; scores are their softmax."""

    label = "label"
    metrics = ("auc_roc", "accuracy", "balanced_accuracy", "f1")
    history = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "auc_roc", "auc_pr")
    train_metrics: ClassVar = {"correct": "accuracy"}
    metric_limits = (0, 1.02)
    plots = ("confusion_matrix.png", "roc_pr_curves.png", "score_distribution.png")
    keeps_classes = True

    def check_settings(self, settings: Settings) -> None:
        unset = {"class_weights": False, "alpha": -1}
        weighing = [key for key, value in unset.items() if getattr(self.loss, key, value) != value]
        if settings.data.balanced and weighing:
            raise SettingsError(
                f"data.balanced is true, but loss.{weighing[0]} is set: rare classes would count twice; use one of them"
            )

    def notes(self, shards: ShardSet, splits: dict[str, np.ndarray]) -> dict[str, str]:
        counts = {split: class_counts(shards, numbers) for split, numbers in splits.items()}
        present = np.flatnonzero(counts["train"])
        if len(present) < 2:
            what, remedy = "train", "build shards with two or more there, or learn the targets with loss.name=mse"
            if np.count_nonzero(class_counts(shards, shards.numbers("train"))) > 1:
                what, remedy = "what is left of train once val is held out", "build a val split of other videos"
            raise FormatError(f"{shards.folder}: {what} has one class, {shards.classes[present[0]]}; {remedy}")
        missing = {split: [shards.classes[k] for k in np.flatnonzero(count == 0)] for split, count in counts.items()}
        return {split: f"{split} has no clips of {', '.join(names)}" for split, names in missing.items() if names}

    def labels(self, shards: ShardSet) -> np.ndarray:
        return shards.labels.astype(np.int64)

    def perfect_outputs(self, labels: np.ndarray, num_classes: int) -> np.ndarray:
        return np.eye(num_classes)[labels]

    def match_classes(self, shards: ShardSet, classes: list[str]) -> ShardSet:
        if shards.classes == classes:
            return shards
        if set(shards.classes) - set(classes):
            raise TrainerError(f"{shards.folder}: classes is {shards.classes}, the model was trained on {classes}")
        samples, head = np.array(shards.samples), shards.heads[0]
        samples[head.field] = np.array([classes.index(name) for name in shards.classes])[shards.labels]
        if missing := [name for name in classes if name not in shards.classes]:
            logger.warning(
                f"{shards.folder} has no class {', '.join(missing)}, which the model knows; figures that "
                "compare classes (AUC) are undefined where there is only one"
            )
        return replace(shards, heads=[replace(head, classes=classes), *shards.heads[1:]], samples=samples)

    def build_model(self, settings: ModelSettings, num_classes: int, size: int) -> nn.Module:
        return build_model(settings, num_classes, size)

    def build_loss(self, model: nn.Module, class_counts: np.ndarray, device: torch.device) -> Loss:
        return build_loss(self.loss, class_counts, device)

    def clip_values(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"correct": outputs.argmax(1) == labels}

    def figures(self, predictions: Predictions, threshold: float | None = None) -> Figures:
        return classification_metrics(predictions.labels, softmax(predictions.outputs), threshold)

    def intervals(
        self, predictions: Predictions, groups: np.ndarray, threshold: float | None
    ) -> dict[str, list[float] | None]:
        scores = softmax(predictions.outputs)
        return classification_intervals(predictions.labels, scores, groups, threshold)

    def thresholds(self, predictions: Predictions, videos: np.ndarray) -> dict[str, float | None]:
        labels, scores = predictions.labels, softmax(predictions.outputs)
        return {
            "threshold": best_threshold(labels, scores),
            "video_threshold": best_threshold(*mean_by_video(videos, labels, scores)),
        }

    def report(self, predictions: Predictions, classes: list[str], threshold: float | None) -> ReportPart:
        from trainer.evaluation import plots

        labels, scores = predictions.labels, softmax(predictions.outputs)
        predicted = predict(scores, threshold)
        drawings = (
            partial(plots.plot_confusion, labels, predicted, classes),
            partial(plots.plot_curves, labels, scores, classes, threshold),
            partial(plots.plot_scores, labels, scores, classes, threshold),
        )
        return ReportPart(
            table=table(labels, scores, classes, threshold),
            decision=decision_line(len(classes), threshold),
            intervals_need="clips of two classes",
            plots=dict(zip(self.plots, drawings, strict=True)),
            worst=rank_worst(labels, scores, classes, threshold),
            baseline=baseline_line(labels, classes),
            meanings=MEANINGS,
        )

    def verdict(self, outputs: np.ndarray, classes: list[str], threshold: float | None) -> dict[str, object]:
        """The clips' probabilities are averaged, as for the threshold of videos."""
        score = softmax(outputs).mean(0)
        predicted = int(predict(score[None], threshold)[0])
        return {"score": f"{score[1 if len(classes) == 2 else predicted]:.6f}", "prediction": predicted}

    def scores_and_predictions(self, outputs: Tensor, threshold: float | None) -> tuple[Tensor, Tensor]:
        scores = outputs.softmax(1)
        if threshold is None:
            return scores, scores.argmax(1)
        return scores, (scores[:, 1] >= threshold).long()
