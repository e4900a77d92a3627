"""The audit of a data set: whether the metadata of its files alone distinguish the classes."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path, PurePosixPath

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from shardify.format.tar import open_archive
from shardify.storage.address import Address
from trainer.errors import FormatError
from trainer.shards.shard_set import ShardSet

ALARM = 0.6  # area under ROC from which a shortcut is worth a warning, however sure it is; chance is 0.5
NUMBERS = ("duration_seconds", "fps", "source_width", "source_height", "source_frames", "source_bytes")
NAMES = ("codec", "container", "pixel_format", "rotation_degrees")
OF_BOXES = ("box_size", "box_x", "box_y", "faces", "face_score")  # of clips that are cut to faces or boxes
OF_SOUND = ("has_audio", "audio_source_rate", "audio_channels", "audio_coverage", "audio_level_db", "audio_errors")
MIN_PER_CLASS = 10  # groups; fewer say nothing


def audit(shards: ShardSet) -> list[str]:
    """Lines that say how well metadata alone predict the class, and a warning with the columns that do."""
    if len(shards.classes) < 2:
        return [f"nothing to audit: all clips are of one class, {shards.classes[0]}"]
    table = metadata_table(shards)
    labels, groups = shards.labels.astype(int), shards.samples["group"].astype(int)
    num_groups = [len(np.unique(groups[labels == label])) for label in range(len(shards.classes))]
    if min(num_groups) < MIN_PER_CLASS:
        return [f"too few groups per class to audit ({min(num_groups)}; it takes {MIN_PER_CLASS})"]
    overall = metadata_auc(np.stack(list(table.values()), 1), labels, groups)
    by_chance = 0.5 + 2 * chance_deviation(num_groups)
    alarm = max(ALARM, by_chance)
    verdict = "0.5 is chance" if overall > 0.5 else "no better than chance, 0.5"
    why = f": within chance for so few groups, {min(num_groups)} of a class" if by_chance > ALARM else ""
    lines = [f"metadata alone predict the class with AUC {overall:.3f} ({verdict}; no alarm up to {alarm:.2f}{why})"]
    if overall > alarm:
        alone = {name: metadata_auc(column[:, None], labels, groups) for name, column in table.items()}
        telling = sorted((name for name in alone if alone[name] > alarm), key=alone.get, reverse=True)
        listed = ", ".join(f"{name} ({alone[name]:.2f})" for name in telling) or "several columns together"
        lines.append(
            f"WARNING: a shortcut in the data: {listed}. A model may learn this instead of the content; encode the "
            f"classes alike, or leave out what differs"
        )
    return lines


def metadata_auc(columns: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """Cross-validated area under ROC on float (N, C) columns; macro over more than two classes.

    By a small forest; by one tree where there is one column, of which it misses nothing.
    """
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    one = columns.shape[1] == 1
    model = DecisionTreeClassifier if one else functools.partial(RandomForestClassifier, 100)
    model = model(min_samples_leaf=5, random_state=0)
    scores = cross_val_predict(model, columns, labels, groups=groups, cv=folds, method="predict_proba")
    if scores.shape[1] == 2:
        return float(roc_auc_score(labels, scores[:, 1]))
    return float(roc_auc_score(labels, scores, multi_class="ovr"))


def chance_deviation(num_groups: list[int]) -> float:
    """Standard deviation of the area under ROC where nothing is to be learned (the rank sum's), smallest class.

    num_groups: of each class; clips of one group have much the same metadata and count as one.
    """
    few, total = min(num_groups), sum(num_groups)
    return math.sqrt((total + 1) / (12 * few * (total - few)))


def metadata_table(shards: ShardSet) -> dict[str, np.ndarray]:
    """Each metadata column as float (N,), one row per clip; names become numbers."""
    records, rows = read_records(shards), []
    for number in range(len(shards.samples)):
        row = records.get((shards.shard(number), shards.key(number)), {})
        missing = [name for name in (*NUMBERS, *NAMES, "source") if name not in row and name != "container"]
        if missing:
            raise FormatError(
                f"{shards.where(number)}: its .json lacks {missing[0]}; only shards of `shardify build` can be audited"
            )
        rows.append(row | {"container": PurePosixPath(row["source"].partition("#t=")[0]).suffix.lower()})
    numbers, names, built = NUMBERS, NAMES, shards.build
    if built.get("audio", "none") != "none":
        numbers, names = numbers + OF_SOUND, (*names, "audio_codec")
    if (built.get("faces") or built.get("boxes")) and all("box" in row for row in rows):  # which version 1 has not
        numbers += OF_BOXES
        rows = [row | _describe_box(row) for row in rows]
    table = {name: np.array([row[name] for row in rows], float) for name in numbers}
    for name in names:
        table[name] = np.unique([str(row[name]) for row in rows], return_inverse=True)[1].astype(float)
    return table


def _describe_box(row: dict) -> dict[str, float]:
    """The side of a clip's box in pixels, and its middle in shares of the picture: detectors differ on fakes."""
    x, y, width, height = row["box"]
    return {
        "box_size": math.sqrt(width * height),
        "box_x": (x + width / 2) / row["source_width"],
        "box_y": (y + height / 2) / row["source_height"],
    }


def read_records(shards: ShardSet) -> dict[tuple[Path | Address, str], dict]:
    """The `<key>.json` of every clip by shard and key, from the tars or the unpacked folders."""
    records = {}
    for path in shards.paths.values():
        try:
            with open_archive(path) as archive:
                for member in archive.members:
                    if member.name.endswith(".json"):
                        key = member.name.removesuffix(".json")
                        records[path, key] = json.loads(archive.read(member, member.length))
        except (OSError, ValueError) as error:
            raise FormatError(f"{path}: its records cannot be read ({error}); copy the folder again") from error
    return records
