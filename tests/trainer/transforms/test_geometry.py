"""Where pixels go: crops, turns, shifts and cutouts are the drawn ones, and none is the identity."""

import pytest
import torch

from trainer.transforms.geometry import batch_cutout, batch_flip, batch_warp


@pytest.fixture
def clips():
    """float (4, 3, 3, 16, 16) in [0, 1]"""
    return torch.rand(4, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def of(*values):
    return torch.tensor(values, dtype=torch.float32)


def test_flip_mirrors_the_chosen_clips(clips):
    flipped = batch_flip(clips, torch.tensor([True, False, True, False]))
    assert torch.equal(flipped[[0, 2]], clips[[0, 2]].flip(-1))
    assert torch.equal(flipped[[1, 3]], clips[[1, 3]])


def test_the_whole_frame_is_the_clip_itself(clips):
    none = torch.zeros(4)
    assert torch.allclose(batch_warp(clips, none + 1, none, none, none), clips, atol=1e-5)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_a_crop_takes_its_corner(x, y):
    clip = torch.zeros(1, 2, 3, 16, 16)
    clip[..., 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] = 1
    cropped = batch_warp(clip, of(0.5), of(0), of(x - 0.5), of(y - 0.5))
    assert cropped.shape == clip.shape
    assert cropped[..., 1:-1, 1:-1].min() > 0.99


def test_a_turn_and_a_shift_by_whole_pixels(clips):
    turned = batch_warp(clips, of(1, 1, 1, 1), of(90, 0, 180, 0), of(0, 0, 0, 0.25), of(0, 0.25, 0, 0))
    assert torch.allclose(turned[0], clips[0].rot90(1, (-2, -1)), atol=1e-4)
    assert torch.allclose(turned[1, ..., :14, :], clips[1, ..., 2:, :], atol=1e-4), "the square's centre moves down"
    assert torch.allclose(turned[1, ..., 14:, :], clips[1, ..., 15:, :].expand(-1, -1, 2, -1), atol=1e-4)
    assert torch.allclose(turned[2], clips[2].flip(-1, -2), atol=1e-4)
    assert torch.allclose(turned[3, ..., :14], clips[3, ..., 2:], atol=1e-4)


def test_a_cutout_is_a_black_square_in_all_frames(clips):
    cut = batch_cutout(clips + 1, of(0.25, 0, 1, 0.5), of(0.5, 0.5, 0.5, 0), of(0.25, 0.5, 0.5, 0))
    assert (cut[0, ..., 2:6, 6:10] == 0).all() and (cut[0] == 0).sum() == 3 * 3 * 16
    assert torch.equal(cut[1], clips[1] + 1)
    assert (cut[2] == 0).all()
    assert (cut[3, ..., :4, :4] == 0).all() and (cut[3] == 0).sum() == 3 * 3 * 16
