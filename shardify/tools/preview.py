"""A picture of some clips of each class, with their labels and times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from shardify.errors import FormatError
from shardify.format.index import ShardIndex, read_index, shard_name
from shardify.format.tar import read_clip
from shardify.format.words import SPLITS

LINE_HEIGHT = 14  # pixels of Pillow's built-in font with some air


def write_preview(folder: Path, out: Path, per_class: int = 3) -> int:
    """Lay `per_class` clips of each class out as strips of frames; returns how many. Raises FormatError."""
    index = read_index(folder)
    rows = []
    for label in range(len(index.classes)):
        chosen = index.samples[index.samples[index.heads[0].field] == label]
        for number in np.linspace(0, len(chosen) - 1, min(per_class, len(chosen)), dtype=int):
            rows.append(_checked_strip(index, chosen[number]))
    if not rows:
        raise FormatError(f"{folder}: holds no clip; see samples.csv for the reasons")
    picture = Image.fromarray(np.concatenate(rows))
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        picture.save(out)
    except ValueError as error:
        raise FormatError(f"{out}: is no picture's name; end it in .jpg or .png") from error
    return len(rows)


def _checked_strip(index: ShardIndex, record: np.void) -> np.ndarray:
    try:
        return _strip(index, record)
    except FormatError:
        raise
    except Exception as error:  # a damaged picture or record: Pillow and NumPy raise a dozen unrelated types
        key = record["key"].decode()
        raise FormatError(f"{index.folder}: clip {key} cannot be shown ({error}); see shardify verify") from error


def _strip(index: ShardIndex, record: np.void) -> np.ndarray:
    """uint8 (H, T·S, 3): a clip's frames below its caption and times, and below them what its other members show."""
    path = index.folder / shard_name(SPLITS[record["split"]], int(record["shard"]))
    key, pictures = record["key"].decode(), []
    for member in index.members.values():
        payload, notes = read_clip(path, key, member.extension)
        picture = member.picture(member.decode(payload))
        if picture is not None:
            pictures.append(picture)
    frames, *others = pictures
    width, count = frames.shape[1], len(notes["pts_seconds"])
    head = Image.new("RGB", (width, 2 * LINE_HEIGHT), "white")
    draw = ImageDraw.Draw(head)
    classes = notes.get("classes", {"": notes["class"]}).values()  # version 1 has one label
    draw.text((2, 1), " · ".join([*filter(None, classes), notes["split"], notes["source"]]), fill="black")
    for k, seconds in enumerate(notes["pts_seconds"]):
        if width >= 48 * count or k % 2 == 0:  # narrow frames have room for every other time
            draw.text((k * width // count + 2, LINE_HEIGHT), f"{seconds:.2f}s", fill="gray")
    return np.concatenate([np.asarray(head), frames, *(_stretched(other, width) for other in others)])


def _stretched(picture: np.ndarray, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((width, len(picture)), Image.Resampling.BOX))
