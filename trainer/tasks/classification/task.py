"""The task of classification: its labels, model, loss, figures and report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from trainer.config.settings import ModelSettings, Settings
from trainer.errors import FormatError, SettingsError
from trainer.evaluation.metrics import (
    Figures,
    Measures,
    best_temperature,
    best_threshold,
    bootstrap_intervals,
    class_figures,
    classification_metrics,
    mean_by_video,
    mean_class_figures,
    measures,
    softmax,
)
from trainer.evaluation.predictions import Predictions, ReportPart, Scored
from trainer.evaluation.weighted import predict
from trainer.models.build import build_model
from trainer.shards.pairs import real_and_fake
from trainer.shards.shard_set import ShardSet, class_counts
from trainer.tasks.base import Loss
from trainer.tasks.classification.classes import match_classes
from trainer.tasks.classification.losses import build_loss
from trainer.tasks.classification.results import MEANINGS, baseline_line, decision_line, rank_worst, table
from trainer.tasks.predicting import PredictingTask, Prediction

LONG_NAMES = {"auc": "auc_roc", "ap": "auc_pr"}  # in settings and tables of a run


class Classification(PredictingTask):
    """The task that learns the class of a clip, by logits (B, K), K the number of classes; scores are their softmax."""

    label = "label"
    headline = "auc"
    metrics = ("auc_roc", "accuracy", "balanced_accuracy", "f1")
    history = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "auc_roc", "auc_pr")
    train_metrics: ClassVar = {"correct": "accuracy"}
    metric_limits = (0, 1.02)
    plots = ("confusion_matrix.png", "roc_pr_curves.png", "score_distribution.png")
    predicts_classes = True
    keeps_classes = True

    def check_settings(self, settings: Settings) -> None:
        self.calibrate = settings.calibrate
        check_weighing(settings)

    def notes(self, shards: ShardSet, splits: dict[str, np.ndarray]) -> dict[str, str]:
        counts = {split: class_counts(shards, numbers) for split, numbers in splits.items()}
        present = np.flatnonzero(counts["train"])
        if len(present) < 2:
            what, remedy = "train", "build shards with two or more there, or learn the targets with loss.name=mse"
            if np.count_nonzero(class_counts(shards, shards.numbers("train"))) > 1:
                what, remedy = "what is left of train once val is held out", "build a val split of other videos"
            raise FormatError(f"{shards.name}: {what} has one class, {shards.classes[present[0]]}; {remedy}")
        missing = {split: [shards.classes[k] for k in np.flatnonzero(count == 0)] for split, count in counts.items()}
        return {split: f"{split} has no clips of {', '.join(names)}" for split, names in missing.items() if names}

    def check_data(
        self, settings: Settings, shards: ShardSet, splits: dict[str, np.ndarray]
    ) -> tuple[Settings, list[str]]:
        if settings.loss.heads:
            raise SettingsError(
                f"loss.heads is {settings.loss.heads}, but {shards.name} has one head, {shards.heads[0].name}, and "
                f"nothing to weigh it against; leave it out"
            )
        return super().check_data(settings, shards, splits)

    def labels(self, shards: ShardSet) -> np.ndarray:
        return shards.labels.astype(np.int64)

    def perfect_outputs(self, labels: np.ndarray, num_classes: int) -> np.ndarray:
        return np.eye(num_classes)[labels]

    def real_and_fake(self, shards: ShardSet) -> tuple[int, int]:
        return real_and_fake(shards.classes, "augment.self_blend")

    def match_classes(self, shards: ShardSet, classes: list[str], meant: Mapping[str, str]) -> ShardSet:
        return match_classes(shards, classes, meant)

    def build_model(self, settings: ModelSettings, num_classes: int, size: int) -> nn.Module:
        return build_model(settings, num_classes, size)

    def build_loss(self, model: nn.Module, class_counts: np.ndarray, device: torch.device) -> Loss:
        return build_loss(self.loss, class_counts, device)

    def clip_values(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"correct": outputs.argmax(1) == labels}

    def figures(self, predictions: Predictions, threshold: float | None = None) -> Figures:
        labels, scores = predictions.labels, self.scores(predictions.outputs)
        found = classification_metrics(labels, scores, threshold) | mean_class_figures(
            class_figures(labels, scores, threshold)
        )
        return {LONG_NAMES.get(name, name): value for name, value in found.items()}

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        return softmax(outputs / self.temperature if self.calibrate else outputs)

    def measure(self, items: Scored, threshold: float | None, with_intervals: bool = True) -> Measures:
        values = classification_metrics(items.labels, items.scores, threshold)
        if not with_intervals:
            return measures(values, {})
        return measures(values, bootstrap_intervals(items.labels, items.scores, items.groups, threshold))

    def intervals(self, found: Measures) -> dict[str, list[float] | None]:
        return {LONG_NAMES.get(name, name): one["interval"] for name, one in found.items()}

    def class_figures(self, items: Scored, classes: list[str], threshold: float | None) -> dict[str, Figures]:
        return dict(zip(classes, class_figures(items.labels, items.scores, threshold), strict=True))

    def kinds(self, items: Scored) -> dict[str, np.ndarray]:
        """Of two classes, each kind of the one that has kinds (of class 1 where both have) against the whole other."""
        if items.scores.shape[1] != 2:
            return {}
        of = 1 if (items.kinds[items.labels == 1] != "").any() else 0
        is_other, names = items.labels != of, np.unique(items.kinds[items.labels == of])
        return {str(name): is_other | (items.kinds == name) for name in names if name}

    def comparison_plots(self, named: Mapping[str, Scored], level: str) -> dict[str, Callable[[Path], None]]:
        from trainer.evaluation import plots

        is_binary = all(items.scores.shape[1] == 2 for items in named.values())
        return {"roc.png": partial(plots.plot_rocs, named, level)} if is_binary else {}

    def calibration(self, predictions: Predictions) -> dict[str, object]:
        found = {"temperature": self.temperature, "is_applied": self.calibrate}
        for name, temperature in (("before", 1.0), ("after", self.temperature)):
            figures = classification_metrics(predictions.labels, softmax(predictions.outputs / temperature))
            found[name] = {figure: figures[figure] for figure in ("brier", "calibration_error")}
        return found

    def fit_scores(self, predictions: Predictions, videos: np.ndarray) -> dict[str, float | None]:
        labels, temperature = predictions.labels, best_temperature(predictions.labels, predictions.outputs)
        scores = softmax(predictions.outputs / temperature if self.calibrate else predictions.outputs)
        return {
            "threshold": best_threshold(labels, scores),
            "video_threshold": best_threshold(*mean_by_video(videos, labels, scores)),
            "temperature": temperature,
        }

    def report(self, predictions: Predictions, classes: list[str], threshold: float | None) -> ReportPart:
        from trainer.evaluation import plots

        labels, scores = predictions.labels, self.scores(predictions.outputs)
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

    def verdict(self, outputs: np.ndarray, classes: list[str], threshold: float | None) -> Prediction:
        """The clips' probabilities are averaged, as for the threshold of videos."""
        of_clips = self.scores(outputs)
        mean = of_clips.mean(0)
        predicted = int(predict(mean[None], threshold)[0])
        shown = 1 if len(classes) == 2 else predicted
        return Prediction(
            class_name=classes[predicted],
            score=float(mean[shown]),
            scores=dict(zip(classes, mean.tolist(), strict=True)),
            clips=tuple(of_clips[:, shown].tolist()),
        )

    def scores_and_predictions(self, outputs: Tensor, threshold: float | None) -> tuple[Tensor, Tensor]:
        scores = (outputs / self.temperature if self.calibrate else outputs).softmax(1)
        if threshold is None:
            return scores, scores.argmax(1)
        return scores, (scores[:, 1] >= threshold).long()


def check_weighing(settings: Settings) -> None:
    """Raises SettingsError where two settings change how much a class counts."""
    unset = {"class_weights": False, "alpha": -1}
    weighing = [key for key, value in unset.items() if getattr(settings.loss, key, value) != value]
    drawn = [name for name in ("balanced", "pairs", "weights") if getattr(settings.data, name)]
    if drawn and weighing:
        raise SettingsError(
            f"data.{drawn[0]} and loss.{weighing[0]} both change how much a class counts; use one of them"
        )
