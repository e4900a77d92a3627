"""One head of several: classification of its labelled clips, as where it is the only one."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np

from shardify.format.members import Member
from shardify.format.records import UNLABELLED, Head
from trainer.config.settings import Settings
from trainer.evaluation.metrics import Figures, Measures, macro_f1, macro_f1_interval, measures
from trainer.evaluation.predictions import Predictions, ReportPart, Scored
from trainer.shards.shard_set import ShardSet
from trainer.tasks.classification.classes import match_classes
from trainer.tasks.classification.results import caption, table
from trainer.tasks.classification.task import Classification


class HeadTask(Classification):
    """The classification of one head, with the macro F1 among its figures; they are None without labelled clips."""

    def __init__(self, settings: Settings, heads: Sequence[Head], members: Mapping[str, Member]) -> None:
        super().__init__(settings, heads, members)
        self.field, self.classes = heads[0].field, heads[0].classes

    def class_counts(self, shards: ShardSet, numbers: np.ndarray) -> np.ndarray:
        labels = shards.samples[self.field][numbers]
        return np.bincount(labels[labels != UNLABELLED], minlength=len(self.classes))

    def match_classes(self, shards: ShardSet, classes: list[str], meant: Mapping[str, str]) -> ShardSet:
        return match_classes(shards, classes, meant, self.field)

    def figures(self, predictions: Predictions, threshold: float | None = None) -> Figures:
        if not len(predictions.labels):
            return dict.fromkeys(self.figures(self._one_clip()))
        labels, scores = predictions.labels, self.scores(predictions.outputs)
        return super().figures(predictions, threshold) | macro_f1(labels, scores)

    def measure(self, items: Scored, threshold: float | None, with_intervals: bool = True) -> Measures:
        if not len(items.labels):
            one = Scored(np.zeros(1, int), self.scores(self._one_clip().outputs), np.zeros(1, int), np.array([""]))
            return measures(dict.fromkeys(self.measure(one, threshold, with_intervals=False)), {})
        found = super().measure(items, threshold, with_intervals)
        interval = macro_f1_interval(items.labels, items.scores, items.groups) if with_intervals else {}
        return found | measures(macro_f1(items.labels, items.scores), interval)

    def class_figures(self, items: Scored, classes: list[str], threshold: float | None) -> dict[str, Figures]:
        if not len(items.labels):
            undefined = dict.fromkeys(("precision", "recall", "f1"))
            return {name: {**undefined, "clips": 0} for name in classes}
        return super().class_figures(items, classes, threshold)

    def report(self, predictions: Predictions, classes: list[str], threshold: float | None) -> ReportPart:
        if not len(predictions.labels):
            return ReportPart([], "", "", plots={}, worst=None, baseline="no clip has a label")
        return super().report(predictions, classes, threshold)

    def table(self, labels: np.ndarray, outputs: np.ndarray) -> list[dict[str, object]]:
        """label, score and prediction of each clip, as of `results.table`; no label where a clip has none."""
        rows = table(labels, self.scores(outputs), self.classes, None)
        return [row if label != UNLABELLED else row | {"label": ""} for row, label in zip(rows, labels, strict=True)]

    def caption(self, label: int, scores: np.ndarray, prediction: int) -> str:
        """A clip's classes, the true and the predicted one, and its score, as HTML."""
        if label == UNLABELLED:
            return f"no label, predicted {html.escape(self.classes[prediction])}"
        return caption(self.classes, int(label), scores, int(prediction))

    def _one_clip(self) -> Predictions:
        """A prediction, for the names of what there is of any."""
        return Predictions(np.zeros(1, int), np.zeros(1, int), np.zeros((1, len(self.classes)), np.float32), 0.0)
