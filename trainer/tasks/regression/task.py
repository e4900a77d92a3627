"""The task of regression: its labels, model, loss, figures and report."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.config.settings import ModelSettings, Settings
from trainer.errors import FormatError, SettingsError, TrainerError
from trainer.evaluation.metrics import Figures, Measures, measures, regression_intervals, regression_metrics
from trainer.evaluation.predictions import Predictions, Ranking, ReportPart, Scored
from trainer.models.build import build_model
from trainer.shards.shard_set import ShardSet
from trainer.tasks.base import Loss
from trainer.tasks.predicting import PredictingTask, Prediction
from trainer.tasks.regression.regressor import Regressor


class Regression(PredictingTask):
    """The task that learns a clip's target, by a value (B, 1) in its unit; the loss counts errors in deviations."""

    label = "target"
    headline = "mae"
    metrics = ("mae", "rmse", "r2", "pearson")
    lower_is_better = ("loss", "mae", "rmse")
    history = metrics
    train_metrics: ClassVar = {"absolute_error": "mae"}
    plots = ("predicted_values.png",)

    def check_settings(self, settings: Settings) -> None:
        if settings.data.balanced:
            raise SettingsError(
                f"data.balanced is true, but loss.name={self.loss.name} learns targets, not classes; leave it out"
            )

        if settings.calibrate:
            raise SettingsError(
                f"calibrate is true, but loss.name={self.loss.name} learns targets, which are no probabilities; "
                f"leave it out"
            )

    def labels(self, shards: ShardSet) -> np.ndarray:
        targets = shards.samples["target"].astype(np.float64)
        is_bad = ~np.isfinite(targets)
        if is_bad.any():
            number = int(is_bad.argmax())
            raise FormatError(
                f"{shards.where(number)}: its target is {targets[number]}; correct the manifest, build again"
            )
        return targets

    def notes(self, shards: ShardSet, splits: dict[str, np.ndarray]) -> dict[str, str]:
        if (shards.samples["target"] != shards.labels).any():
            return {}
        number = f"every target is its class's number, 0 for {shards.classes[0]}"
        return {"train": f"{number}: the shards were built without targets"}

    def perfect_outputs(self, labels: np.ndarray, num_classes: int) -> np.ndarray:
        return labels[:, None]

    def match_classes(self, shards: ShardSet, classes: list[str], meant: Mapping[str, str]) -> ShardSet:
        if meant:
            raise TrainerError("--map is for classes, but this run learned targets; leave it out")
        return shards

    def build_model(self, settings: ModelSettings, num_classes: int, size: int) -> nn.Module:
        return Regressor(build_model(settings, 1, size))

    def fit(self, model: nn.Module, shards: ShardSet, numbers: np.ndarray) -> None:
        model.fit(self.labels(shards)[numbers])

    def build_loss(self, model: nn.Module, class_counts: np.ndarray, device: torch.device) -> Loss:
        distance = functional.mse_loss if self.loss.name == "mse" else functional.l1_loss
        unit = model.deviation if isinstance(model, Regressor) else 1.0
        return lambda values, target: distance(values[:, 0].float() / unit, target.float() / unit, reduction="none")

    def clip_values(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"absolute_error": (outputs[:, 0].float() - labels).abs()}

    def figures(self, predictions: Predictions, threshold: float | None = None) -> Figures:
        return regression_metrics(predictions.labels, predictions.outputs[:, 0])

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        return outputs.astype(np.float64)

    def measure(self, items: Scored, threshold: float | None, with_intervals: bool = True) -> Measures:
        values = regression_metrics(items.labels, items.scores[:, 0])
        if not with_intervals:
            return measures(values, {})
        return measures(values, regression_intervals(items.labels, items.scores[:, 0], items.groups))

    def history_curves(self, metric: str) -> list[str]:
        curves = super().history_curves(metric)
        return curves[-1:] if metric in ("r2", "pearson") else curves  # flat beside errors in the targets' unit

    def report(self, predictions: Predictions, classes: list[str], threshold: float | None) -> ReportPart:
        from trainer.evaluation import plots

        targets, values = predictions.labels, predictions.outputs[:, 0]
        errors = np.abs(values - targets)
        worst = Ranking(
            order=np.argsort(-errors, kind="stable"),
            shares=errors / max(errors.max(), 1e-12),
            caption=lambda i: f"target {targets[i]:.4g}, predicted {values[i]:.4g}",
            summary="The largest error comes first; the bar is the error as a share of the largest one.",
        )
        return ReportPart(
            table=[
                {"target": f"{target:.6g}", "prediction": f"{value:.6g}"}
                for target, value in zip(targets, values.tolist(), strict=True)
            ],
            decision="in the targets' unit",
            intervals_need="targets that differ",
            plots={self.plots[0]: partial(plots.plot_values, targets, values)},
            worst=worst,
        )

    def verdict(self, outputs: np.ndarray, classes: list[str], threshold: float | None) -> Prediction:
        """The mean of the clips' values."""
        values = outputs[:, 0].astype(np.float64)
        return Prediction(score=float(values.mean()), clips=tuple(values.tolist()))

    def scores_and_predictions(self, outputs: Tensor, threshold: float | None) -> tuple[Tensor, Tensor]:
        return outputs, outputs[:, 0]
