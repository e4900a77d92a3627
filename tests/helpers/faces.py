"""What the tests of faces share: a detector of bright squares, and drawn faces that the real detector finds."""

import shutil
import sys

import numpy as np
import opencv_standin
from media import write_video
from PIL import Image, ImageDraw, ImageFilter

from shardify.faces.track import Face


def bright_squares(pictures):
    """A detector: the box around all bright pixels, as a face of score 0.9; none in a dark picture."""
    return list(map(_bright_square, pictures))


def _bright_square(picture):
    ys, xs = np.nonzero(picture.mean(axis=2) > 128)
    if len(xs) == 0:
        return []
    x, y = float(xs.min()), float(ys.min())
    return [Face((x, y, float(xs.max()) + 1 - x, float(ys.max()) + 1 - y), 0.9)]


def square_at(x, y, side, size=(160, 96)):
    """A dark picture, uint8 (H, W, 3), with one bright square; all dark where the side is 0."""
    picture = np.full((size[1], size[0], 3), 20, np.uint8)
    picture[y : y + side, x : x + side] = 230
    return picture


def drawn_face(x, y, radius, size=(320, 180)):
    """A picture, uint8 (H, W, 3), with a simple face around (x, y)."""
    image = Image.new("RGB", size, (120, 140, 160))
    draw, r = ImageDraw.Draw(image), radius
    draw.ellipse((x - r * 0.85, y - r * 1.1, x + r * 0.85, y - r * 0.3), fill=(60, 40, 30))
    draw.ellipse((x - r * 0.7, y - r * 0.75, x + r * 0.7, y + r * 0.9), fill=(224, 180, 150))
    for side in (-1, 1):
        eye = x + side * r * 0.32
        draw.ellipse((eye - r * 0.14, y - r * 0.29, eye + r * 0.14, y - r * 0.15), fill=(250, 250, 250))
        draw.ellipse((eye - r * 0.06, y - r * 0.28, eye + r * 0.06, y - r * 0.16), fill=(40, 30, 20))
        brow = (x + side * r * 0.15, y - r * 0.38, x + side * r * 0.5, y - r * 0.4)
        draw.line(brow, fill=(60, 40, 30), width=max(1, round(r * 0.07)))
    draw.polygon([(x, y - r * 0.1), (x - r * 0.12, y + r * 0.2), (x + r * 0.12, y + r * 0.2)], fill=(200, 150, 120))
    draw.ellipse((x - r * 0.28, y + r * 0.4, x + r * 0.28, y + r * 0.55), fill=(170, 60, 60))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(1)))


def make_people(data):
    """Four videos of drawn faces, two of each class, and one without a face."""
    for i, name in enumerate(("real/a", "real/b", "fake/a", "fake/b")):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        frames = [drawn_face(90 + 30 * i + j, 90, 30 + 5 * i) for j in range(6)]
        write_video(data / f"{name}.mp4", frames, options={"crf": "15"})
    write_video(data / "fake/empty.mp4", [square_at(0, 0, 0)] * 6)
    return data


def make_squares(data, count=2):
    """Videos of a bright square before the dark, which no detector but a stand-in takes for a face."""
    for i in range(2 * count):
        path = data / ("real", "fake")[i % 2] / f"{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, [square_at(20 + 4 * i + j, 30, 24) for j in range(6)], options={"crf": "10"})
    return data


def use_opencv_standin(monkeypatch, folder):
    """Make `import cv2` give the stand-in, in this process and in workers; returns the path of its YuNet file."""
    folder.mkdir()
    shutil.copy(opencv_standin.__file__, folder / "cv2.py")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setitem(sys.modules, "cv2", opencv_standin)
    (folder / "yunet.onnx").write_bytes(b"yunet")
    return folder / "yunet.onnx"
