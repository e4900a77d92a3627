"""The evaluation of predictions as it is reported: of clips and of their videos, of each kind and each class."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trainer.evaluation.metrics import Measures, mean_measures
from trainer.evaluation.predictions import Predictions, Scored
from trainer.shards.shard_set import ShardSet, videos_of
from trainer.tasks.predicting import PredictingTask

LEVELS = {"clip": "threshold", "video": "video_threshold"}  # and the threshold of each

Thresholds = Mapping[str, float | None]  # by the values of LEVELS


def evaluation(
    task: PredictingTask, predictions: Predictions, split: str, shards: ShardSet, rows: dict[int, dict[str, str]],
    thresholds: Thresholds,
) -> dict:  # fmt: skip
    """All figures of one split of one data set, as plain values.

    clip and video: figure: value and interval, the latter of the means over a video's clips; kinds: the same two of
    each kind, and kinds_mean their mean; classes: figures of each class, over clips; calibration: of temperature
    scaling. rows: of samples.csv, by the clip's number; thresholds: as validation chose them.
    """
    clips, videos = scored_levels(task, predictions, shards, rows)
    of_kinds = list(zip(*(task.kinds(items).items() for items in (clips, videos)), strict=True))
    kinds = {
        name: measure_levels(task, clips.of(in_clips), videos.of(in_videos), thresholds)
        for (name, in_clips), (_, in_videos) in of_kinds
    }
    return {
        "split": split,
        "clips": len(clips.labels),
        "videos": len(videos.labels),
        "loss": predictions.loss,
        **{name: thresholds[name] for name in LEVELS.values()},
        **measure_levels(task, clips, videos, thresholds),
        "kinds": kinds,
        "kinds_mean": mean_levels(list(kinds.values())) if kinds else {},
        "classes": task.class_figures(clips, shards.classes, thresholds["threshold"]),
        "calibration": task.calibration(predictions),
    }


def scored_levels(
    task: PredictingTask, predictions: Predictions, shards: ShardSet, rows: dict[int, dict[str, str]]
) -> tuple[Scored, Scored]:
    """The clips of predictions, and their videos."""
    numbers = predictions.numbers
    kinds = np.array([rows.get(number, {}).get("kind", "") for number in numbers.tolist()])
    groups = shards.samples["group"][numbers]
    clips = Scored(predictions.labels, task.scores(predictions.outputs), groups, kinds)
    return clips, clips.by_video(videos_of(shards, numbers))


def measure_levels(task: PredictingTask, clips: Scored, videos: Scored, thresholds: Thresholds) -> dict[str, Measures]:
    """The figures of clips and of videos: the same ones where each video is one clip, and the thresholds are one."""
    clip = task.measure(clips, thresholds["threshold"])
    is_same = len(videos.labels) == len(clips.labels) and thresholds["threshold"] == thresholds["video_threshold"]
    return {"clip": clip, "video": clip if is_same else task.measure(videos, thresholds["video_threshold"])}


def mean_levels(found: list[Mapping[str, Measures]]) -> dict[str, Measures]:
    """The means of figures of clips and of videos, over kinds or data sets."""
    return {level: mean_measures([one[level] for one in found]) for level in LEVELS}
