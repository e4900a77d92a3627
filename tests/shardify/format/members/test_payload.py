"""Whatever a payload holds, it is a clip of the expected size or an error: no crash, no large memory."""

import numpy as np
import pytest
import torch
from PIL import Image

from shardify.format.members import frames
from shardify.format.members.frames import DAMAGE


@pytest.mark.parametrize("with_simplejpeg", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8\xff",
        b"not a picture",
        frames.encode_jpeg(np.zeros((8, 8, 3), np.uint8), 90),
        frames.encode_jpeg(np.zeros((1, 1, 3), np.uint8), 90),
        frames.encode_jpeg(np.zeros((32, 48, 3), np.uint8), 90)[:-200],
    ],
    ids=["empty", "head", "text", "small", "one pixel", "cut"],
)
def test_what_is_no_sheet_of_the_right_size_is_refused(content, with_simplejpeg, monkeypatch):
    if not with_simplejpeg:
        monkeypatch.setattr(frames, "simplejpeg", None)
    with pytest.raises(DAMAGE):
        frames.decode_into(content, "jpeg", torch.empty((32, 48, 3), dtype=torch.uint8))


@pytest.mark.parametrize("shape", [(5, 16, 16, 1), (4, 16, 16, 3), (5 * 16 * 16 * 3,)])
def test_raw_clips_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="holds"):
        frames.decode_into(frames.encode_raw(np.zeros(shape, np.uint8)), "raw", torch.empty((5, 16, 16, 3)))


def test_a_large_sheet_is_no_bomb(monkeypatch):
    """Pillow's limit lies below the largest sheets that are built; the expected size is what is checked."""
    monkeypatch.setattr(frames, "simplejpeg", None)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    out = torch.ones((32, 48, 3), dtype=torch.uint8)
    frames.decode_into(frames.encode_jpeg(np.zeros((32, 48, 3), np.uint8), 90), "jpeg", out)
    assert not out.any()
