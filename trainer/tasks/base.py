"""The contract of a task: all that the trainer asks of what is learned."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from shardify.format.members import Member
from shardify.format.records import Head
from trainer.config.settings import ModelSettings, Settings
from trainer.data.batches import Values
from trainer.data.loader import ClipLoader
from trainer.errors import SettingsError
from trainer.evaluation.metrics import Figures, Measures
from trainer.evaluation.predictions import Predictions, ReportPart, Scored
from trainer.shards.shard_set import ShardSet, class_counts

# outputs (B, K) and labels (B,) to float32 (B,), one loss per clip; or labels (B, H) to (B, H), one of each head
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Prediction:
    """What a model says of one video or picture. In regression there is no class: `score` is the value.

    A video's score is the mean of its clips' ones, and its class is chosen from the mean: with two classes at the
    run's threshold for videos, else it is the likeliest.
    """

    class_name: str | None = None  # None in regression, and where there is an error
    score: float | None = None  # probability of class 1 of two, else of the predicted class; or the value
    scores: dict[str, float] = field(default_factory=dict)  # the probability of every class, by its name
    clips: tuple[float, ...] = ()  # the same as `score`, of each clip
    heads: dict[str, Prediction] = field(default_factory=dict)  # of every head by name, where there are several
    source: str = ""  # the file's path; "" for an array
    error: str = ""  # why there is no score; "" where there is one

    @property
    def confidence(self) -> float | None:
        """The probability of the predicted class, None where there is no class."""
        return None if self.class_name is None else self.scores[self.class_name]


class Task(ABC):
    """A task: which labels of a clip are learned, by which model and loss, and which figures say how well.

    `trainer.tasks.task_of` makes it from the settings of a run or of a saved model; of the data it knows the heads and
    the members. Shapes: B clips of a step, N clips of a split, K outputs of the model per clip, H heads. Clips that a
    model gets are float32 (B, T, 3, S, S), normalised. Where labels are (B,) or (N,), they are (B, H) or (N, H) with
    several heads.
    """

    label: str  # what is learned, in words
    headline: str  # the figure of `measure` by which models are compared
    metrics: tuple[str, ...]  # that the best model may be chosen by; the first one is what `metric: auto` comes to
    lower_is_better: tuple[str, ...] = ("loss",)
    history: tuple[str, ...]  # the metrics of validation in training_history.csv
    loss_parts: tuple[str, ...] = ("",)  # what follows `loss` and `clips` in the names of a step's sums, for each loss
    train_metrics: dict[str, str]  # what a step sums over its clips: the metric that its mean is called
    metric_limits: tuple[float, float] | None = None  # of the axis on which the history's plot shows them
    other_members: tuple[str, ...] = ()  # of each clip, that are read beside its frames
    plots: tuple[str, ...]  # the files that `report` draws, in results/evaluation/
    further_files: tuple[str, ...] = ()  # that `further_results` gives, in results/
    predicts_classes = False  # whether outputs are one per class
    temperature = 1.0  # of the scores, as validation has fitted it; who reads a saved model sets it
    keeps_classes = False  # whether clips are held out so that train and val have every class

    def __init__(self, settings: Settings, heads: Sequence[Head], members: Mapping[str, Member]) -> None:
        """Raises SettingsError where a setting does not go with the task."""
        self.loss = settings.loss
        if "mel" not in self.other_members:
            for name in ("frequency_mask", "time_mask", "gain"):
                if value := getattr(settings.augment, name):
                    raise SettingsError(f"augment.{name} is {value}, but no sound is trained on here; leave it out")
        self.check_settings(settings)
        fits = ("auto", "loss", *self.metrics)
        if settings.metric not in fits:
            raise SettingsError(
                f"metric is {settings.metric}, which does not go with loss.name={self.loss.name}; use {', '.join(fits)}"
            )

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

    @abstractmethod
    def notes(self, shards: ShardSet, splits: dict[str, np.ndarray]) -> dict[str, str]:
        """What the user should know about the labels, by split. Raises FormatError where nothing can be learned."""

    @abstractmethod
    def perfect_outputs(self, labels: np.ndarray, num_classes: int) -> np.ndarray:
        """Outputs (N, K) without an error, which show the metrics that no model could have on these labels."""

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

    def check_data(
        self, settings: Settings, shards: ShardSet, splits: dict[str, np.ndarray]
    ) -> tuple[Settings, list[str]]:
        """The settings with a definite metric, and notes; where it is undefined on val, the loss takes its place.

        Raises FormatError where nothing can be learned, SettingsError where a setting does not go with the labels.
        """
        if settings.augment.self_blend:
            self.real_and_fake(shards)
        metric = self.metrics[0] if settings.metric == "auto" else settings.metric
        notes, labels = self.notes(shards, splits), self.labels(shards)[splits["val"]]
        perfect = Predictions(splits["val"], labels, self.perfect_outputs(labels, len(shards.classes)), 0.0)
        if self.figures(perfect).get(metric, 0) is None:
            why = notes.get("val", f"val's {self.label}s are all the same")
            notes["val"] = f"{why}: {metric} is undefined there, so the best epoch is chosen by val's loss"
            metric = "loss"
        return dataclasses.replace(settings, metric=metric), list(notes.values())

    @abstractmethod
    def match_classes(self, shards: ShardSet, classes: list[str], meant: Mapping[str, str]) -> ShardSet:
        """Other shards with labels as a model has them that learned `classes`.

        meant: class of the shards: class of the model, as the user has stated it. Raises TrainerError where a class
        of the shards cannot be matched.
        """

    # the model

    @abstractmethod
    def build_model(self, settings: ModelSettings, num_classes: int, size: int) -> nn.Module:
        """The model: clips (B, T, 3, size, size) to outputs, float (B, K). Raises SettingsError."""

    def fit(self, model: nn.Module, labels: np.ndarray) -> None:  # noqa: B027 (most models need nothing)
        """Take over from the labels of train, (N,), what the model needs to know of them before training."""

    def inputs(
        self, clips: Tensor, members: Values, epoch: int | None = None, seeds: np.ndarray | None = None
    ) -> tuple[Tensor, ...]:
        """What the model is called with: clips as it gets them, and what it takes of the other members of a batch.

        epoch, seeds: in training, what augmentation of the other members is drawn from; seeds as of a Batch.
        """
        return (clips,)

    def attention(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """How much the model attends to each moment, float (B, moments) of `video` and `audio`; {} where it does not.

        inputs: as of `inputs`.
        """
        return {}

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

    def by_head(self, figures: dict) -> dict:
        """What `split_figures` gives, as experiment_results.json has it: with several heads, those of each together."""
        return figures

    @abstractmethod
    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """What is averaged over a video's clips, float64 (N, K), of outputs, float32 (N, K)."""

    @abstractmethod
    def measure(self, items: Scored, threshold: float | None, with_intervals: bool = True) -> Measures:
        """The figures of clips or of videos, with 95% intervals, for which whole groups are resampled."""

    def intervals(self, found: Measures) -> dict[str, list[float] | None]:
        """The intervals of what `measure` has found, by the names that `figures` has for them."""
        return {name: one["interval"] for name, one in found.items()}

    def class_figures(self, items: Scored, classes: list[str], threshold: float | None) -> dict[str, Figures]:
        """The figures of each class by its name; none where the task has no classes."""
        return {}

    def kinds(self, items: Scored) -> dict[str, np.ndarray]:
        """Which items, bool (N,), tell how well each kind is recognised; none where the task has no kinds."""
        return {}

    def comparison_plots(self, named: Mapping[str, Scored], level: str) -> dict[str, Callable[[Path], None]]:
        """File: what draws it, of plots that compare data sets by their names; level: what the items are, in words."""
        return {}

    def calibration(self, predictions: Predictions) -> dict[str, object]:
        """How well scores are probabilities, before and after temperature scaling; empty where they are none."""
        return {}

    def fit_scores(self, predictions: Predictions, videos: np.ndarray) -> dict[str, float | None]:
        """What validation chooses: the temperature of scores, and those from which class 1 of two is predicted.

        `threshold` is of a clip, `video_threshold` of a video, whose score is its clips' mean. They differ: means lie
        closer together. videos: which one each clip comes from, (N,).
        """
        return {"threshold": None, "video_threshold": None, "temperature": 1.0}

    def further_results(
        self, evaluate: Callable[..., Predictions], loader: ClipLoader, predictions: Predictions,
        threshold: float | None,
    ) -> dict[str, dict]:  # fmt: skip
        """File in results/: its content, of what takes more than one evaluation of the best model.

        evaluate: gives predictions of a loader; predictions: of `loader`; threshold: the run's. All ranks call it.
        """
        return {}

    def maximises(self, metric: str) -> bool:
        """Whether more of the metric is better."""
        return metric not in self.lower_is_better

    def shown_metric(self, metric: str) -> str:
        """The metric that is shown beside the loss, where `metric` chooses the best model."""
        return self.metrics[0] if metric in ("auto", "loss") else metric

    # what people see

    def history_columns(self) -> list[str]:
        """The figures of an epoch in training_history.csv."""
        train = [f"train_{name}" for name in ("loss", *self.train_metrics.values())]
        return [*train, *(f"val_{name}" for name in ("loss", *self.history))]

    def history_curves(self, metric: str) -> list[str]:
        """The columns that the history's plot shows beside the losses, where `metric` chooses the best model."""
        names = [f"{split}_{name}" for name in self.train_metrics.values() for split in ("train", "val")]
        return list(dict.fromkeys([*names, f"val_{self.shown_metric(metric)}"]))

    @abstractmethod
    def report(self, predictions: Predictions, classes: list[str], threshold: float | None) -> ReportPart:
        """The task's part of the report on predictions, and its columns of their table."""

    @abstractmethod
    def verdict(self, outputs: np.ndarray, classes: list[str], threshold: float | None) -> Prediction:
        """What the outputs of one video's clips, float32 (N, K), say of it; threshold: of videos."""

    @abstractmethod
    def scores_and_predictions(self, outputs: Tensor, threshold: float | None) -> tuple[Tensor, Tensor]:
        """The end of an exported model: outputs (B, K) to scores (B, K) and predictions (B,)."""
