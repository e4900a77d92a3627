import io

import numpy as np
import pytest
from PIL import Image

from shardify.format.members.frames import (
    MAX_PIXELS,
    decode_jpeg,
    decode_raw,
    encode_jpeg,
    encode_raw,
    from_sheet,
    grid_shape,
    to_sheet,
)


@pytest.mark.parametrize(("frames", "grid"), [(1, (1, 1)), (2, (1, 2)), (5, (2, 3)), (16, (4, 4)), (17, (4, 5))])
def test_grid(frames, grid):
    assert grid_shape(frames) == grid


@pytest.mark.parametrize("count", [1, 3, 16, 17])
def test_frames_lie_row_by_row_and_come_back(count):
    frames = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
    laid = to_sheet(frames)
    rows, columns = grid_shape(count)
    assert laid.shape == (rows * 8, columns * 8, 3)
    for k in range(count):
        row, column = divmod(k, columns)
        assert np.array_equal(laid[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8], frames[k])
    assert laid.sum() == frames.sum(dtype=int)  # unused cells are black
    assert np.array_equal(from_sheet(laid, count), frames)


def test_a_frame_cut_from_the_sheet_has_the_pixels_of_its_own_jpeg():
    frames = np.random.default_rng(1).integers(0, 256, (16, 24, 24, 3), np.uint8)
    cut = from_sheet(decode_jpeg(encode_jpeg(to_sheet(frames), 90)), 16)
    for k in range(16):
        assert np.array_equal(cut[k], decode_jpeg(encode_jpeg(frames[k], 90)))


def test_jpeg_is_stable_and_444():
    picture = np.random.default_rng(2).integers(0, 256, (16, 16, 3), np.uint8)
    payload = encode_jpeg(picture, 95)
    assert payload == encode_jpeg(picture, 95)
    with Image.open(io.BytesIO(payload)) as image:
        assert {sampling[1:3] for sampling in image.layer} == {(1, 1)}


def test_raw_round_trip_without_a_copy():
    frames = np.random.default_rng(3).integers(0, 256, (4, 8, 8, 3), np.uint8)
    payload = encode_raw(frames)
    decoded = decode_raw(payload)
    assert np.array_equal(decoded, frames) and not decoded.flags.owndata
    assert np.array_equal(np.load(io.BytesIO(payload), allow_pickle=False), frames)


def npy(array, **how):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **how)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "payload",
    [
        npy(np.array([{"a": 1}], dtype=object), allow_pickle=True),
        npy(np.zeros((2, 2), np.float32)),
        npy(np.zeros((2, 3), np.uint8, order="F")),
        npy(np.zeros(4, np.uint8))[:-2],
        b"not an array",
        b"",
    ],
)
def test_raw_refuses_what_it_would_not_have_written(payload):
    with pytest.raises(ValueError):
        decode_raw(payload)


def test_the_largest_sheet_is_no_bomb(monkeypatch):
    """256 frames of 1024×1024 are beyond Pillow's own limit; what no build writes is refused before it is decoded."""
    assert MAX_PIXELS == (16 * 1024) ** 2 > 2 * Image.MAX_IMAGE_PIXELS
    small = encode_jpeg(np.zeros((64, 64, 3), np.uint8), 50)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert decode_jpeg(small).shape == (64, 64, 3)
    monkeypatch.setattr("shardify.format.members.frames.MAX_PIXELS", 64 * 64 - 1)
    with pytest.raises(ValueError, match="64×64 pixels are no sheet"):
        decode_jpeg(small)


@pytest.mark.parametrize(
    ("shape", "message"), [((-1, 4), "has the shape"), ((True, 4), "has the shape"), ((2, 3), "its header says")]
)
def test_raw_headers_that_promise_another_shape(shape, message):
    payload = io.BytesIO()
    np.lib.format.write_array_header_1_0(payload, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with pytest.raises(ValueError, match=message):
        decode_raw(payload.getvalue() + bytes(4))
