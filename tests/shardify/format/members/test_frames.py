import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

from shardify.format.members import frames as frames_module
from shardify.format.members.base import DAMAGE
from shardify.format.members.frames import Frames, from_sheet, grid_shape, to_sheet
from shardify.format.settings import BuildSettings

RNG = np.random.default_rng(0)
SHEET = Frames.of(BuildSettings(frames=5, size=16))  # 2 rows of 3 cells


def noise(count, size):
    return RNG.integers(0, 256, (count, size, size, 3), np.uint8)


def jpeg_of(picture):
    """One picture as a JPEG of its own."""
    size = picture.shape[0]
    return Frames(codec="jpeg", frames=1, size=size, cell=size, quality=90).encode(picture[None])


@pytest.fixture(params=["simplejpeg", "Pillow"])
def decoder(request, monkeypatch):
    if request.param == "Pillow":
        monkeypatch.setattr(frames_module, "simplejpeg", None)


@pytest.mark.parametrize(("frames", "grid"), [(1, (1, 1)), (2, (1, 2)), (5, (2, 3)), (16, (4, 4)), (17, (4, 5))])
def test_grid(frames, grid):
    assert grid_shape(frames) == grid


@pytest.mark.parametrize("count", [1, 3, 16, 17])
def test_frames_lie_row_by_row_and_come_back(count):
    frames = noise(count, 8)
    laid = to_sheet(frames)
    rows, columns = grid_shape(count)
    assert laid.shape == (rows * 8, columns * 8, 3)
    for k in range(count):
        row, column = divmod(k, columns)
        assert np.array_equal(laid[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8], frames[k])
    assert laid.sum() == frames.sum(dtype=int)  # unused cells are black
    assert np.array_equal(from_sheet(laid, count), frames)


def test_padding_repeats_the_edge_and_is_cut_off():
    frames = noise(3, 13)
    laid = to_sheet(frames, 16)
    assert laid.shape == (32, 32, 3)
    assert np.array_equal(laid[13:16, :13], np.repeat(frames[0][12:], 3, axis=0))
    assert np.array_equal(laid[:13, 29:32], np.repeat(frames[1][:, 12:], 3, axis=1))
    assert np.array_equal(from_sheet(laid, 3, size=13), frames)


@pytest.mark.parametrize("size", [24, 21])
def test_a_frame_cut_from_the_sheet_has_the_pixels_of_its_own_jpeg(size, decoder):
    frames = noise(16, size)
    member = dataclasses.replace(Frames.of(BuildSettings(frames=16, size=size)), quality=90)
    assert member.cell == 24
    cut = member.decode(member.encode(frames))
    for k in range(16):
        with Image.open(io.BytesIO(jpeg_of(to_sheet(frames[k : k + 1], 24)))) as image:
            assert np.array_equal(cut[k], np.asarray(image)[:size, :size])


def test_jpeg_is_stable_and_444():
    frames = noise(1, 16)
    member = Frames.of(BuildSettings(frames=1, size=16))
    payload = member.encode(frames)
    assert payload == member.encode(frames)
    with Image.open(io.BytesIO(payload)) as image:
        assert {sampling[1:3] for sampling in image.layer} == {(1, 1)}


@pytest.mark.parametrize("size", [8, 9])
def test_raw_frames_come_back_without_padding(size):
    member, frames = Frames.of(BuildSettings(frames=4, size=size, codec="raw")), noise(4, size)
    assert (member.cell, member.stored_shape, member.extension) == (size, (4, size, size, 3), "npy")
    payload = member.encode(frames)
    assert np.array_equal(member.decode(payload), frames)
    assert np.array_equal(np.load(io.BytesIO(payload), allow_pickle=False), frames)


@pytest.mark.parametrize("codec", ["jpeg", "raw"])
def test_torch_and_numpy_are_cut_alike(codec):
    member = Frames.of(BuildSettings(frames=5, size=11, codec=codec))
    stored = RNG.integers(0, 256, (2, *member.stored_shape), np.uint8)
    values = member.unpack(stored, np.ascontiguousarray)
    assert values.shape == (2, *member.shape) == (2, 5, 11, 11, 3)
    tensor = member.unpack(torch.from_numpy(stored), torch.Tensor.contiguous)
    assert np.array_equal(tensor.numpy(), values)
    arranged = member.arrange(tensor)
    assert arranged.shape == (2, 5, 3, 11, 11) and torch.equal(arranged, tensor.permute(0, 1, 4, 2, 3))


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xd8\xff", b"not a picture", jpeg_of(noise(1, 8)[0]), jpeg_of(noise(1, 1)[0])],
    ids=["empty", "head", "text", "small", "one pixel"],
)
def test_what_is_no_sheet_of_the_right_size_is_refused(content, decoder):
    with pytest.raises(DAMAGE):
        SHEET.decode_into(content, torch.empty(SHEET.stored_shape, dtype=torch.uint8))


def test_a_sheet_that_ends_too_early_is_refused(decoder):
    content = SHEET.encode(noise(5, 16))[:-200]
    with pytest.raises(DAMAGE):
        SHEET.decode(content)


@pytest.mark.parametrize("shape", [(5, 16, 16, 1), (4, 16, 16, 3), (5 * 16 * 16 * 3,)])
def test_raw_clips_of_another_shape_are_refused(shape):
    member = Frames.of(BuildSettings(frames=5, size=16, codec="raw"))
    with pytest.raises(ValueError, match="holds"):
        member.decode(member.encode(np.zeros(shape, np.uint8)))


def test_a_large_sheet_is_no_bomb_and_a_bomb_is_not_decoded(monkeypatch, decoder):
    """Pillow's limit lies below the largest sheets that are built; the expected size is what is checked."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    payload = SHEET.encode(np.zeros((5, 16, 16, 3), np.uint8))
    assert not SHEET.decode(payload).any()
    start = payload.index(b"\xff\xc0") + 5
    giant = payload[:start] + (65_000).to_bytes(2, "big") * 2 + payload[start + 4 :]
    with pytest.raises(ValueError, match="is 65000×65000 pixels, not 32×48"):
        SHEET.decode(giant)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("codec", "gif"), ("codec", []), ("frames", 0), ("frames", True), ("frames", 257), ("size", 0), ("size", 1.5),
        ("size", 5000), ("cell", 8), ("cell", 24), ("cell", "16"),
    ],
)  # fmt: skip
def test_entries_that_no_build_writes_are_refused(field, value):
    about = SHEET.to_dict()
    assert Frames.from_dict("frames", about) == SHEET
    with pytest.raises(ValueError, match=rf"^members\.frames\.{field} is "):
        Frames.from_dict("frames", {**about, field: value})
    with pytest.raises(ValueError, match=f"has no {field}"):
        Frames.from_dict("frames", {name: value for name, value in about.items() if name != field})
