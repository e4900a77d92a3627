"""worst_clips.html: the clips that the model got most wrong, as contact sheets on one page that needs no other file."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from shardify.format.members import frames
from shardify.format.members.frames import decode_into
from shardify.storage.local import write_atomically
from trainer.data.shard_set import ShardSet
from trainer.errors import FormatError
from trainer.evaluation.metrics import predict, softmax
from trainer.evaluation.predictions import Predictions

MOST = 24  # clips
SHEET_PIXELS = 480  # largest side of a sheet on the page
COLUMN_PIXELS = 340  # of the page's grid, at least; narrower sheets are enlarged, and then stay sharp
HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Worst clips</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #f5f5f3; margin: 2rem auto; max-width: 1180px;
  padding: 0 1rem }
h1 { font-size: 1.4rem; margin: 0 0 .3rem }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); gap: 1.2rem; margin-top: 1.4rem }
figure { margin: 0; background: #fff; border: 1px solid #ddd; border-radius: 6px; overflow: hidden }
img { display: block; width: 100% }
.enlarged { image-rendering: pixelated }
figcaption { padding: .6rem .8rem .8rem; overflow-wrap: anywhere }
.wrong { color: #b3261e; font-weight: 600 }
.right { color: #2b6a30; font-weight: 600 }
.bar { height: 6px; background: #e4e4e0; border-radius: 3px; margin: .45rem 0 }
.bar i { display: block; height: 100%; background: #b3261e; border-radius: 3px }
small { color: #666 }
</style>
"""


def write_worst_clips(
    path: Path, shards: ShardSet, predictions: Predictions, threshold: float | None, rows: dict[str, dict[str, str]]
) -> None:
    """The clips that were predicted wrongly, the surest first, then those that were right by the least.

    In regression, those whose values are furthest from their targets. rows: key → row of samples.csv.
    """
    numbers, labels = predictions.numbers, predictions.labels
    if predictions.is_regression:
        errors = np.abs(predictions.logits[:, 0] - labels)
        order = np.argsort(-errors, kind="stable")[:MOST].tolist()
        captions = [f"target {labels[i]:.4g}, predicted {predictions.logits[i, 0]:.4g}" for i in order]
        shares = [errors[i] / max(errors.max(), 1e-12) for i in order]
        summary = f"The bar is the error, beside the largest of {len(labels)} clips."
    else:
        scores = softmax(predictions.logits)
        chosen = predict(scores, threshold)
        order = worst_first(labels, scores, chosen)[:MOST].tolist()
        captions = [_caption(shards.classes, int(labels[i]), scores[i], int(chosen[i])) for i in order]
        shares = [1 - scores[i, labels[i]] for i in order]
        wrong = int((labels != chosen).sum())
        summary = f"{wrong} of {len(labels)} clips are predicted wrongly" if wrong else "No clip is predicted wrongly"
        if threshold is not None:
            summary += f" (the threshold is {threshold:.3f})"
        summary += "; the bar is the probability that was given to classes other than the true one."
    figures = [
        _figure(shards, int(numbers[i]), caption, share, rows)
        for i, caption, share in zip(order, captions, shares, strict=True)
    ]
    title = f"{html.escape(path.resolve().parent.parent.name)}: the clips that the model got most wrong"
    page = f"{HEAD}<h1>{title}</h1>\n<p>{summary}</p>\n<main>\n" + "\n".join(figures) + "\n</main>\n</html>\n"
    write_atomically(path, page.encode())


def worst_first(labels: np.ndarray, scores: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Places int (N,): wrong predictions before right ones, each by the probability of the true class."""
    return np.lexsort((scores[np.arange(len(labels)), labels], labels == predictions))


def _caption(classes: list[str], label: int, scores: np.ndarray, prediction: int) -> str:
    names = [html.escape(name) for name in classes]
    kind = "right" if label == prediction else "wrong"
    shown = 1 if len(names) == 2 else prediction
    return (
        f'{names[label]}, predicted <span class="{kind}">{names[prediction]}</span> '
        f"(score of {names[shown]}: {scores[shown]:.3f})"
    )


def _figure(shards: ShardSet, number: int, caption: str, share: float, rows: dict[str, dict[str, str]]) -> str:
    key = shards.key(number)
    source = html.escape(rows.get(key, {}).get("source", ""))
    width = frames.grid_shape(shards.frames)[1] * shards.size
    kind = ' class="enlarged"' if width < COLUMN_PIXELS else ""
    return (
        f'<figure><img{kind} alt="{html.escape(key)}" src="{_picture(shards, number)}"><figcaption>{caption}'
        f'<div class="bar"><i style="width:{100 * share:.1f}%"></i></div>'
        f"<small>{source}<br>{html.escape(key)}</small></figcaption></figure>"
    )


def _picture(shards: ShardSet, number: int) -> str:
    """A clip's contact sheet as a data URL, or an empty one where the clip cannot be read."""
    rows, columns = frames.grid_shape(shards.frames)
    is_raw, size = shards.codec == "raw", shards.size
    shape = (shards.frames, size, size, 3) if is_raw else (rows * size, columns * size, 3)
    pixels = torch.empty(shape, dtype=torch.uint8)
    try:
        decode_into(shards.read(number), shards.codec, pixels)
    except (FormatError, ValueError, OSError):  # skipped in training too, and reported there
        return "data:,"
    picture = Image.fromarray(frames.to_sheet(pixels.numpy()) if is_raw else pixels.numpy())
    picture.thumbnail((SHEET_PIXELS, SHEET_PIXELS))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
