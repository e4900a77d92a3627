"""The page of the clips that the model got most wrong: contact sheets in one HTML file that needs no other."""

from __future__ import annotations

import base64
import html
import io
import math
from pathlib import Path

import numpy as np
from PIL import Image

from shardify.format.members.base import DAMAGE
from shardify.format.members.frames import grid_shape, to_sheet
from shardify.storage.local import write_atomically
from trainer.evaluation.predictions import Ranking
from trainer.shards.shard_set import ShardSet

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
    shards: ShardSet, numbers: np.ndarray, ranking: Ranking, rows: dict[int, dict[str, str]], path: Path, caption: str
) -> None:
    """The page of the worst clips.

    numbers: int64 (N,), of the clips that are ranked; rows: of samples.csv, by number; caption: what was evaluated.
    """
    figures = [
        _figure(shards, int(numbers[i]), ranking.caption(i), float(ranking.shares[i]), rows)
        for i in ranking.order[:MOST].tolist()
    ]
    title = f"{html.escape(path.resolve().parent.parent.name)}: the clips that the model got most wrong"
    about = f"<p>{html.escape(caption)}. {ranking.summary}</p>"
    page = f"{HEAD}<h1>{title}</h1>\n{about}\n<main>\n" + "\n".join(figures) + "\n</main>\n</html>\n"
    write_atomically(path, page.encode())


def _figure(shards: ShardSet, number: int, caption: str, share: float, rows: dict[int, dict[str, str]]) -> str:
    key = shards.key(number)
    source = html.escape(rows.get(number, {}).get("source", ""))
    width = grid_shape(shards.frames)[1] * shards.size
    kind = ' class="enlarged"' if width < COLUMN_PIXELS else ""
    return (
        f'<figure><img{kind} alt="{html.escape(key)}" src="{_picture(shards, number)}"><figcaption>{caption}'
        f'<div class="bar"><i style="width:{100 * share:.1f}%"></i></div>'
        f"<small>{source}<br>{html.escape(key)}</small></figcaption></figure>"
    )


def _picture(shards: ShardSet, number: int) -> str:
    """A clip's contact sheet, with its spectrogram beneath, as a data URL; empty where the clip cannot be read."""
    names = [shards.first_member.name, *(["mel"] if "mel" in shards.members else [])]
    try:
        payloads = zip(names, shards.read(number, names), strict=True)
        frames, *mels = (shards.members[name].decode(payload) for name, payload in payloads)
    except DAMAGE:  # skipped in training too, and reported there
        return "data:,"
    unused = math.prod(grid_shape(len(frames))) - len(frames)
    white = np.full((unused, *frames.shape[1:]), 255, np.uint8)  # cells that are black look like frames
    picture = Image.fromarray(to_sheet(np.concatenate([frames, white])))
    picture.thumbnail((SHEET_PIXELS, SHEET_PIXELS))
    for mel in mels:
        beneath = Image.fromarray(shards.members["mel"].picture(mel))
        beneath = beneath.resize((picture.width, max(1, picture.width // 4)))
        picture = Image.fromarray(np.concatenate([np.asarray(picture), np.asarray(beneath)]))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
