"""The page of what a model attends to: frames, sound and attention by time in one HTML file that needs no other."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

FRAME_PIXELS = 96  # largest side of a frame on the page
HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Attention</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #f5f5f3; margin: 2rem auto; max-width: 1180px;
  padding: 0 1rem }
h1 { font-size: 1.4rem; margin: 0 0 .3rem }
figure { margin: 1.4rem 0; background: #fff; border: 1px solid #ddd; border-radius: 6px; padding: .8rem }
img { display: block; width: 100%; image-rendering: pixelated }
.mel { height: 6rem }
.strip { display: flex; height: 1.1rem; margin: 2px 0 .5rem; border: 1px solid #ddd }
.strip i { flex: 1; background: #b3261e }
small { color: #666; overflow-wrap: anywhere }
</style>
"""
ABOUT = (
    "Time runs from left to right. Each strip shows how much the fusion's class token of the frames, or of the sound "
    "below them, attends to each moment: dark red is the most that the clip has. Attention says where a model takes "
    "its values from, not why it decides."
)


@dataclass(frozen=True)
class Explained:
    """A clip, what is predicted of it, and how much the model attends to each of its moments."""

    source: str
    lines: list[str]  # what is predicted, and what is so
    frames: np.ndarray  # uint8 (T, S, S, 3)
    mel: np.ndarray | None  # the picture of its spectrogram, uint8 (M, F, 3); None without sound
    attention: Mapping[str, np.ndarray]  # float (moments,) of `video` and `audio`, those that the model has


def attention_page(title: str, clips: Sequence[Explained]) -> str:
    """The whole page as HTML."""
    figures = "\n".join(map(_figure, clips))
    return f"{HEAD}<h1>{html.escape(title)}</h1>\n<p>{ABOUT}</p>\n{figures}\n</html>\n"


def _figure(clip: Explained) -> str:
    parts = [_image(_side_by_side(clip.frames), "frames", "JPEG"), _strip(clip.attention.get("video"))]
    if clip.mel is not None:
        parts += [_image(Image.fromarray(clip.mel), "mel", "PNG"), _strip(clip.attention.get("audio"))]
    elif "audio" in clip.attention:
        parts.append("<small>no sound</small>")
    lines = "<br>".join(map(html.escape, clip.lines))
    parts.append(f"<figcaption>{lines}<br><small>{html.escape(clip.source)}</small></figcaption>")
    return f"<figure>{''.join(parts)}</figure>"


def _side_by_side(frames: np.ndarray) -> Image.Image:
    picture = Image.fromarray(np.concatenate(list(frames), axis=1))
    picture.thumbnail((FRAME_PIXELS * len(frames), FRAME_PIXELS))
    return picture


def _image(picture: Image.Image, kind: str, form: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, form)
    content = base64.b64encode(buffer.getvalue()).decode()
    return f'<img class="{kind}" alt="{kind}" src="data:image/{form.lower()};base64,{content}">'


def _strip(weights: np.ndarray | None) -> str:
    if weights is None:
        return ""
    most = max(float(weights.max()), 1e-12)
    cells = "".join(f'<i style="opacity:{w / most:.3f}" title="{w:.1%}"></i>' for w in weights.tolist())
    return f'<div class="strip">{cells}</div>'
