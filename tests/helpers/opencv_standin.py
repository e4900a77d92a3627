"""A stand-in for the package `cv2`, as YuNet's file is not ours to ship: finds what is bright in the first channel."""

import numpy as np

__version__ = "0.0.0"


class error(Exception):
    err = "Failed to parse ONNX model"


class utils:
    class logging:
        LOG_LEVEL_ERROR = 2

        @staticmethod
        def setLogLevel(level):
            pass


def setNumThreads(count):
    pass


class FaceDetectorYN:
    def __init__(self, size, score_threshold):
        self.size, self.score_threshold = size, score_threshold

    @classmethod
    def create(cls, model, config, input_size, score_threshold):
        with open(model, "rb") as file:
            if file.read() != b"yunet":
                raise error
        return cls(input_size, score_threshold)

    def setInputSize(self, size):
        self.size = size

    def detect(self, picture):
        assert picture.dtype == np.uint8 and picture.flags.c_contiguous and picture.shape == (*self.size[::-1], 3)
        ys, xs = np.nonzero(picture[..., 0] > 128)
        if len(xs) == 0:
            return 1, None
        box = (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)
        return 1, np.array([[*box, *range(10), 0.9]], np.float32)
