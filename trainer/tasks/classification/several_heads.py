"""The task of classification with several heads: each clip has a label of each, or none of some."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from shardify.format.members import Member
from shardify.format.records import UNLABELLED, Head
from trainer.config.settings import AugmentSettings, ModelSettings, Settings
from trainer.errors import FormatError, SettingsError
from trainer.evaluation.metrics import Figures, Measures
from trainer.evaluation.predictions import Predictions, Ranking, ReportPart, Scored
from trainer.models.build import build_model
from trainer.shards.shard_set import ShardSet
from trainer.tasks.base import Loss
from trainer.tasks.classification.head import HeadTask
from trainer.tasks.classification.losses import build_head_losses
from trainer.tasks.classification.task import check_weighing
from trainer.tasks.predicting import PredictingTask, Prediction

MEAN = "mean"  # in place of a head's name
CHOOSING = ("f1_macro", "accuracy", "balanced_accuracy", "auc_roc")  # the figures of a head that may choose a model


class SeveralHeads(PredictingTask):
    """The task that learns the classes of several heads.

    The logits of the heads stand beside each other, (B, K), K the number of all classes; labels are (B, H), -1 where a
    clip has none. Figures are those of each head as HEAD.NAME, over its labelled clips, their means over the heads
    that have them as mean.NAME, and joint_accuracy: the share of the clips with all labels whose classes are all right.
    """

    label = "label"
    headline = "mean.f1_macro"
    metric_limits = (0, 1.02)
    predicts_classes = True
    keeps_classes = True

    def __init__(self, settings: Settings, heads: Sequence[Head], members: Mapping[str, Member]) -> None:
        names = [head.name for head in heads]
        if MEAN in names:
            raise FormatError(f"a head of these shards is called {MEAN}, which means all of them; give it another name")
        single = dataclasses.replace(settings, metric="auto", augment=AugmentSettings())  # which is no head's own
        self.heads = {head.name: HeadTask(single, [head], members) for head in heads}
        ends = np.cumsum([0, *(len(head.classes) for head in heads)])
        self.slices = {name: slice(*ends[i : i + 2]) for i, name in enumerate(names)}  # of the outputs
        self.metrics = (*(f"{name}.{figure}" for name in (MEAN, *names) for figure in CHOOSING), "joint_accuracy")
        self.history = (*(f"{name}.{figure}" for name in (MEAN, *names) for figure in CHOOSING[:2]), "joint_accuracy")
        self.loss_parts = tuple(f"_{name}" for name in names)
        self.train_metrics = {f"correct_{name}": f"{name}.accuracy" for name in names}
        self.plots = tuple(f"{name}_{plot}" for name in names for plot in HeadTask.plots)
        super().__init__(settings, heads, members)

    def check_settings(self, settings: Settings) -> None:
        check_weighing(settings)
        if settings.calibrate:
            raise SettingsError("calibrate is true, but with several heads scores stay as they are; leave it out")
        for name in self.loss.heads:
            if name not in self.heads:
                raise SettingsError(f"loss.heads has {name!r}; the heads of these shards are {', '.join(self.heads)}")
        if not any(self.weights):
            raise SettingsError("loss.heads is 0 for every head; give one that is to be learned a weight above 0")

    @property
    def weights(self) -> list[float]:
        """What the loss of each head is multiplied by."""
        return [self.loss.heads.get(name, 1.0) for name in self.heads]

    # the data

    def labels(self, shards: ShardSet) -> np.ndarray:
        return np.stack([shards.samples[task.field] for task in self.heads.values()], axis=1).astype(np.int64)

    def notes(self, shards: ShardSet, splits: dict[str, np.ndarray]) -> dict[str, str]:
        found: dict[str, list[str]] = {}
        for weight, (name, task) in zip(self.weights, self.heads.items(), strict=True):
            for split, numbers in splits.items():
                counts = task.class_counts(shards, numbers)
                missing = [task.classes[k] for k in np.flatnonzero(counts == 0)]
                if split == "train" and weight and np.count_nonzero(counts) < 2:
                    has = f"labels of {name} of one class alone" if counts.any() else f"no label of {name}"
                    raise FormatError(
                        f"{shards.name}: train has {has}; build shards with two classes of it there, or leave the "
                        f"head out with loss.heads.{name}=0"
                    )
                if not counts.any():
                    found.setdefault(split, []).append(f"no label of {name}, which its means leave out")
                elif missing:
                    found.setdefault(split, []).append(f"no clips of {name} {', '.join(missing)}")
        return {split: f"{split} has {' and '.join(lines)}" for split, lines in found.items()}

    def perfect_outputs(self, labels: np.ndarray, num_classes: int) -> np.ndarray:
        tasks = zip(self.heads.values(), labels.T, strict=True)
        return np.concatenate([np.eye(len(task.classes))[own.clip(0)] for task, own in tasks], axis=1)

    def counted(self, labels: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return (labels != UNLABELLED) & mask[:, None]

    def class_counts(self, shards: ShardSet, numbers: np.ndarray) -> np.ndarray:
        return np.concatenate([task.class_counts(shards, numbers) for task in self.heads.values()])

    def class_names(self, classes: list[str]) -> list[str]:
        return [f"{name} {each}" for name, task in self.heads.items() for each in task.classes]

    def match_classes(self, shards: ShardSet, classes: list[str], meant: Mapping[str, str]) -> ShardSet:
        for task in self.heads.values():
            shards = task.match_classes(shards, task.classes, meant)
        by_name = {head.name: head for head in shards.heads}
        return dataclasses.replace(shards, heads=[by_name[name] for name in self.heads])

    # the model

    def build_model(self, settings: ModelSettings, num_classes: int, size: int) -> nn.Module:
        return build_model(settings, sum(len(task.classes) for task in self.heads.values()), size)

    def build_loss(self, model: nn.Module, class_counts: np.ndarray, device: torch.device) -> Loss:
        counts = [class_counts[own] for own in self.slices.values()]
        return build_head_losses(self.loss, counts, self.weights, device)

    def clip_values(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        heads = zip(self.slices.items(), labels.unbind(1), strict=True)
        return {f"correct_{name}": outputs[:, own].argmax(1) == label for (name, own), label in heads}

    # figures

    def train_figures(self, sums: dict[str, float]) -> dict[str, float]:
        clips = {name: max(sums[f"clips_{name}"], 1) for name in self.heads}
        right = {f"train_{name}.accuracy": sums[f"correct_{name}"] / count for name, count in clips.items()}
        return {"train_loss": sum(sums[f"loss_{name}"] / count for name, count in clips.items()), **right}

    def figures(self, predictions: Predictions, threshold: float | None = None) -> Figures:
        of_heads = {name: task.figures(own) for name, task, own in self._each(predictions)}
        means = {f"{MEAN}.{figure}": _mean([own[figure] for own in of_heads.values()]) for figure in CHOOSING}
        joint = {"joint_accuracy": self._joint_accuracy(predictions.labels, predictions.outputs)}
        return means | joint | _joined(of_heads)

    def by_head(self, figures: dict) -> dict:
        heads = {name: _of_head(figures, name) for name in self.heads}
        own = {f"{name}.{figure}" for name, found in heads.items() for figure in found}
        return {name: value for name, value in figures.items() if name not in own} | {"heads": heads}

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        return np.concatenate([task.scores(outputs[:, self.slices[name]]) for name, task in self.heads.items()], axis=1)

    def measure(self, items: Scored, threshold: float | None, with_intervals: bool = True) -> Measures:
        of_heads = {name: task.measure(own, None, with_intervals) for name, task, own in self._each_scored(items)}
        means = {f"{MEAN}.f1_macro": _mean([own["f1_macro"]["value"] for own in of_heads.values()])}
        means["joint_accuracy"] = self._joint_accuracy(items.labels, items.scores)
        return {name: {"value": value, "interval": None} for name, value in means.items()} | _joined(of_heads)

    def intervals(self, found: Measures) -> dict[str, list[float] | None]:
        of_heads = {name: task.intervals(_of_head(found, name)) for name, task in self.heads.items()}
        return {name: one["interval"] for name, one in found.items() if "." not in name} | _joined(of_heads)

    def class_figures(self, items: Scored, classes: list[str], threshold: float | None) -> dict[str, Figures]:
        return {
            f"{name} {each}": figures
            for name, task, own in self._each_scored(items)
            for each, figures in task.class_figures(own, task.classes, None).items()
        }

    # what people see

    def report(self, predictions: Predictions, classes: list[str], threshold: float | None) -> ReportPart:
        parts = {name: task.report(own, task.classes, None) for name, task, own in self._each(predictions)}
        plots = {f"{name}_{plot}": draw for name, part in parts.items() for plot, draw in part.plots.items()}
        return ReportPart(
            table=self._table(predictions),
            decision="the largest probability of each head decides",
            intervals_need="clips of two classes",
            plots=plots,
            worst=self._worst(predictions),
            baseline="\n".join(f"{name}: {part.baseline}" for name, part in parts.items()),
            meanings={f"{name}.{key}": text for name, part in parts.items() for key, text in part.meanings.items()},
        )

    def verdict(self, outputs: np.ndarray, classes: list[str], threshold: float | None) -> Prediction:
        """The prediction of the primary head, with those of all heads."""
        heads = {
            name: task.verdict(outputs[:, self.slices[name]], task.classes, None) for name, task in self.heads.items()
        }
        return dataclasses.replace(next(iter(heads.values())), heads=heads)

    def scores_and_predictions(self, outputs: Tensor, threshold: float | None) -> tuple[Tensor, Tensor]:
        """Scores (B, K), those of each head beside each other, and predictions (B, H)."""
        logits = [outputs[:, own] for own in self.slices.values()]
        scores = torch.cat([own.softmax(1) for own in logits], dim=1)
        return scores, torch.stack([own.argmax(1) for own in logits], dim=1)

    def _each(self, predictions: Predictions):
        """(name, task, predictions of its labelled clips) of every head that has any."""
        for place, (name, task) in enumerate(self.heads.items()):
            labels = predictions.labels[:, place]
            has = labels != UNLABELLED
            outputs = predictions.outputs[has, self.slices[name]]
            yield name, task, Predictions(predictions.numbers[has], labels[has], outputs, predictions.loss)

    def _each_scored(self, items: Scored):
        """The same of clips or videos."""
        for place, (name, task) in enumerate(self.heads.items()):
            own = items.of(items.labels[:, place] != UNLABELLED)
            scores = own.scores[:, self.slices[name]]
            yield name, task, dataclasses.replace(own, labels=own.labels[:, place], scores=scores)

    def _predicted(self, outputs: np.ndarray) -> np.ndarray:
        """The class of each head, int (N, H), of outputs or scores (N, K)."""
        return np.stack([outputs[:, own].argmax(1) for own in self.slices.values()], axis=1)

    def _joint_accuracy(self, labels: np.ndarray, outputs: np.ndarray) -> float | None:
        has_all = (labels != UNLABELLED).all(1)
        is_right = (self._predicted(outputs) == labels).all(1)[has_all]
        return float(is_right.mean()) if len(is_right) else None

    def _table(self, predictions: Predictions) -> list[dict[str, object]]:
        """A row per clip with the columns of each head."""
        tables = {
            name: task.table(predictions.labels[:, place], predictions.outputs[:, self.slices[name]])
            for place, (name, task) in enumerate(self.heads.items())
        }
        return [_joined(dict(zip(tables, rows, strict=True))) for rows in zip(*tables.values(), strict=True)]

    def _worst(self, predictions: Predictions) -> Ranking:
        """The clips of which most heads are wrong first, then by the mean probability of the other classes."""
        labels, scores = predictions.labels, self.scores(predictions.outputs)
        has, predicted = labels != UNLABELLED, self._predicted(scores)
        places = labels.clip(0) + np.array([own.start for own in self.slices.values()])
        missed = np.where(has, 1 - np.take_along_axis(scores, places, 1), 0).sum(1) / has.sum(1).clip(1)
        num_wrong = (has & (predicted != labels)).sum(1)

        def caption(i: int) -> str:
            heads = zip(self.heads.items(), labels[i], predicted[i], strict=True)
            lines = [
                f"{html.escape(name)}: {task.caption(label, scores[i, self.slices[name]], own)}"
                for (name, task), label, own in heads
            ]
            return "<br>".join(lines)

        return Ranking(
            order=np.lexsort((-missed, -num_wrong)),
            shares=missed,
            caption=caption,
            summary=f"{np.count_nonzero(num_wrong)} of {len(labels)} clips are predicted wrongly by some head. Clips "
            "of which most heads are wrong come first; the bar is the mean probability of the other classes.",
        )


def _mean(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _joined(of_heads: Mapping[str, Mapping]) -> dict:
    """What there is of each head, as HEAD.NAME."""
    return {f"{head}.{name}": value for head, found in of_heads.items() for name, value in found.items()}


def _of_head(found: Mapping, head: str) -> dict:
    """What `_joined` has of one head."""
    return {name.removeprefix(f"{head}."): value for name, value in found.items() if name.startswith(f"{head}.")}
