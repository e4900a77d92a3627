"""The contract of a task that predicts labels: what its scores are, and what is said of them."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from trainer.config.settings import Settings
from trainer.data.batches import Batch, Values
from trainer.data.loader import ClipLoader
from trainer.evaluation.metrics import Figures, Measures
from trainer.evaluation.predictions import Predictions, ReportPart, Scored
from trainer.shards.shard_set import ShardSet
from trainer.tasks.base import Task
from trainer.transforms.augment import augment
from trainer.transforms.clips import normalise, to_float


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


class PredictingTask(Task):
    """A task that learns the labels of clips, float32 (B, T, 3, S, S), normalised; its model can be used on others.

    Shapes as of `Task`.
    """

    label: str  # what is learned, in words
    headline: str  # the figure of `measure` by which models are compared
    predicts_classes = False  # whether outputs are one per class
    temperature = 1.0  # of the scores, as validation has fitted it; who reads a saved model sets it

    # the data

    @abstractmethod
    def notes(self, shards: ShardSet, splits: dict[str, np.ndarray]) -> dict[str, str]:
        """What the user should know about the labels, by split. Raises FormatError where nothing can be learned."""

    @abstractmethod
    def perfect_outputs(self, labels: np.ndarray, num_classes: int) -> np.ndarray:
        """Outputs (N, K) without an error, which show the metrics that no model could have on these labels."""

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

    def training_inputs(
        self, batch: Batch, labels: Tensor, epoch: int, draws: np.ndarray, blended: np.ndarray
    ) -> tuple[Tensor, ...]:
        data = self.settings.data
        clips = augment(to_float(batch.clips, data.frames, data.size), self.settings.augment, draws, blended)
        return self.inputs(normalise(clips), batch.others, epoch, batch.seeds)

    def evaluation_inputs(self, batch: Batch, labels: Tensor, places: np.ndarray) -> tuple[Tensor, ...]:
        data = self.settings.data
        return self.inputs(normalise(to_float(batch.clips, data.frames, data.size)), batch.others)

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

    # figures

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

    def further_results(
        self, evaluate: Callable[..., Predictions], loader: ClipLoader, predictions: Predictions,
        threshold: float | None,
    ) -> dict[str, dict]:  # fmt: skip
        """File in results/: its content, of what takes more than one evaluation of the best model.

        evaluate: gives predictions of a loader; predictions: of `loader`; threshold: the run's. All ranks call it.
        """
        return {}

    # what people see

    @abstractmethod
    def report(self, predictions: Predictions, classes: list[str], threshold: float | None) -> ReportPart:
        """The task's part of the report on predictions, and its columns of their table."""

    @abstractmethod
    def verdict(self, outputs: np.ndarray, classes: list[str], threshold: float | None) -> Prediction:
        """What the outputs of one video's clips, float32 (N, K), say of it; threshold: of videos."""

    @abstractmethod
    def scores_and_predictions(self, outputs: Tensor, threshold: float | None) -> tuple[Tensor, Tensor]:
        """The end of an exported model: outputs (B, K) to scores (B, K) and predictions (B,)."""
