"""The contract of a task: all that training asks of what is learned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from shardify.format.members import Member
from shardify.format.records import Head
from trainer.config.settings import ModelSettings, Settings
from trainer.data.batches import Batch
from trainer.errors import SettingsError
from trainer.evaluation.metrics import Figures
from trainer.evaluation.predictions import Predictions
from trainer.shards.shard_set import ShardSet, class_counts

# outputs (B, K) and labels (B,) to float32 (B,), one loss per clip; or labels (B, H) to (B, H), one of each head
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Validated:
    """A run as it stands after a validation."""

    model: nn.Module  # that was evaluated
    shards: ShardSet
    numbers: dict[str, np.ndarray]  # of the run's clips, int64 (N,), by split
    steps: tuple[int, int]  # of the run at the validation before, and now
    is_best: bool


class Task(ABC):
    """A task: what is learned of a clip, by which model and loss, and which figures say how well.

    One that predicts labels is a `PredictingTask`, one that learns to make clips a `GenerativeTask`.
    `trainer.tasks.task_of` makes it from the settings of a run or of a saved model; of the data it knows the heads and
    the members. Shapes: B clips of a step, N clips of a split, K outputs of the model per clip, H heads. Where labels
    are (B,) or (N,), they are (B, H) or (N, H) with several heads.
    """

    metrics: tuple[str, ...] = ()  # beside the loss, that the best model may be chosen by
    lower_is_better: tuple[str, ...] = ("loss",)
    history: tuple[str, ...] = ()  # the metrics of validation in training_history.csv
    loss_parts: tuple[str, ...] = ("",)  # what follows `loss` and `clips` in the names of a step's sums, for each loss
    train_metrics: dict[str, str]  # what a step sums over its clips: the metric that its mean is called
    metric_limits: tuple[float, float] | None = None  # of the axis on which the history's plot shows them
    other_members: tuple[str, ...] = ()  # of each clip, that are read beside its frames
    plots: tuple[str, ...] = ()  # the files that the report draws, in results/evaluation/
    further_files: tuple[str, ...] = ()  # that the report adds in results/
    keeps_classes = False  # whether clips are held out so that train and val have every class
    compares_train = False  # whether losses on clips of train are set beside those on as many of val
    draws_samples = False  # whether `after_validation` may take minutes

    def __init__(self, settings: Settings, heads: Sequence[Head], members: Mapping[str, Member]) -> None:
        """Raises SettingsError where a setting does not go with the task."""
        self.settings, self.loss = settings, settings.loss
        if "mel" not in self.other_members:
            for name in ("frequency_mask", "time_mask", "gain"):
                if value := getattr(settings.augment, name):
                    raise SettingsError(f"augment.{name} is {value}, but no sound is trained on here; leave it out")
        self.check_settings(settings)
        fits = ("auto", "loss", *self.metrics)
        if settings.metric not in fits:
            raise SettingsError(
                f"metric is {settings.metric}, which does not go with {self.asked_by}; use {', '.join(fits)}"
            )

    @property
    def asked_by(self) -> str:
        """The setting that asks for this task."""
        return f"loss.name={self.loss.name}"

    @abstractmethod
    def check_settings(self, settings: Settings) -> None:
        """Raises SettingsError where settings other than the metric do not go with the task."""

    def read_members(self, shards: ShardSet) -> list[str]:
        """The names of the members that are read of each clip, the frames first."""
        return [shards.first_member.name, *self.other_members]

    def resolve(self, settings: Settings, device: torch.device) -> tuple[Settings, list[str]]:
        """The settings with what `auto` comes to in those of the task's own model, and notes. Raises SettingsError."""
        return settings, []

    # the data

    @abstractmethod
    def labels(self, shards: ShardSet) -> np.ndarray:
        """What is learned of each clip, by its number: int64 or float64 (clips of all splits,), or (…, H).

        Raises FormatError where one cannot be learned.
        """

    def real_and_fake(self, shards: ShardSet) -> tuple[int, int]:
        """The labels of real clips and of fakes. Raises SettingsError where the task has no such labels."""
        raise SettingsError(
            "augment.self_blend makes fakes of real clips, so it goes only with one head, of the two classes real and "
            "fake; leave it out"
        )

    def counted(self, labels: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Which clips count in the losses: bool (B,), or (B, H); mask, bool (B,): which ones do not only pad."""
        return mask

    def class_counts(self, shards: ShardSet, numbers: np.ndarray) -> np.ndarray:
        """The clips of each class among these numbers, int64 (K,), in the order of `class_names`."""
        return class_counts(shards, numbers)

    def class_names(self, classes: list[str]) -> list[str]:
        """The names of all classes; classes: of the primary head."""
        return classes

    @abstractmethod
    def check_data(
        self, settings: Settings, shards: ShardSet, splits: dict[str, np.ndarray]
    ) -> tuple[Settings, list[str]]:
        """The settings with a definite metric, and notes.

        Raises FormatError where nothing can be learned, SettingsError where a setting does not go with the data.
        """

    # the model

    @abstractmethod
    def build_model(self, settings: ModelSettings, num_classes: int, size: int) -> nn.Module:
        """The model, which gives outputs, float (B, K), of its inputs for clips of this size. Raises SettingsError."""

    def fit(self, model: nn.Module, shards: ShardSet, numbers: np.ndarray) -> None:  # noqa: B027 (most need nothing)
        """Take over from the clips of train, of these numbers, what the model needs to know of them before training."""

    @abstractmethod
    def training_inputs(
        self, batch: Batch, labels: Tensor, epoch: int, draws: np.ndarray, blended: np.ndarray
    ) -> tuple[Tensor, ...]:
        """What the model is called with in training: a batch, or a part of it, with its labels (B,).

        draws: of each clip, as of `trainer.transforms.augment.draw`; blended: which become pseudo-fakes, bool (B,).
        """

    @abstractmethod
    def evaluation_inputs(self, batch: Batch, labels: Tensor, places: np.ndarray) -> tuple[Tensor, ...]:
        """What the model is called with in evaluation; places: of the clips among those that are evaluated, (B,)."""

    @abstractmethod
    def build_loss(self, model: nn.Module, class_counts: np.ndarray, device: torch.device) -> Loss:
        """The loss per clip of a model that is on `device`; class_counts: of the clips of train, as of `class_counts`.

        Raises SettingsError where it does not fit the number of classes.
        """

    @abstractmethod
    def clip_values(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """What a step sums beside losses and clips, by the names in `train_metrics`: (B,) each, on their device."""

    # figures

    def train_figures(self, sums: dict[str, float]) -> dict[str, float]:
        """The figures of training, by their columns of the history.

        sums: of an epoch, for each of `loss_parts` its loss and its clips, and `train_metrics`.
        """
        clips = max(sums["clips"], 1)  # with every step skipped, none counts
        names = {"loss": "loss", **self.train_metrics}
        return {f"train_{figure}": sums[name] / clips for name, figure in names.items()}

    @abstractmethod
    def figures(self, predictions: Predictions, threshold: float | None = None) -> Figures:
        """The metrics by name, None where one is undefined; threshold: the score from which class 1 is predicted."""

    def split_figures(self, predictions: Predictions, split: str, threshold: float | None = None) -> dict:
        """The metrics of one split, with its name and number of clips."""
        about = {"split": split, "clips": len(predictions.labels), "loss": predictions.loss}
        return {**about, **self.figures(predictions, threshold)}

    def maximises(self, metric: str) -> bool:
        """Whether more of the metric is better."""
        return metric not in self.lower_is_better

    def shown_metric(self, metric: str) -> str:
        """The metric that is shown beside the loss, where `metric` chooses the best model."""
        return self.metrics[0] if metric in ("auto", "loss") and self.metrics else metric

    def fit_scores(self, predictions: Predictions, videos: np.ndarray) -> dict[str, float | None]:
        """What validation chooses: the temperature of scores, and those from which class 1 of two is predicted.

        `threshold` is of a clip, `video_threshold` of a video, whose score is its clips' mean. They differ: means lie
        closer together. videos: which one each clip comes from, (N,).
        """
        return {"threshold": None, "video_threshold": None, "temperature": 1.0}

    # what people see

    def history_columns(self) -> list[str]:
        """The figures of an epoch in training_history.csv."""
        train = [f"train_{name}" for name in ("loss", *self.train_metrics.values())]
        return [*train, *(f"val_{name}" for name in ("loss", *self.history))]

    def history_curves(self, metric: str) -> list[str]:
        """The columns that the history's plot shows beside the losses, where `metric` chooses the best model."""
        names = [f"{split}_{name}" for name in self.train_metrics.values() for split in ("train", "val")]
        return list(dict.fromkeys([*names, f"val_{self.shown_metric(metric)}"]))

    def after_validation(self, out: Path, validated: Validated) -> dict[str, float]:
        """What else is kept in the run's folder `out` after a validation, by the main process; figures of it."""
        return {}
