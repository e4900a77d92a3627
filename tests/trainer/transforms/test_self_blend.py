"""Pseudo-fakes: the middle and its surroundings come from two versions of one clip, with a soft edge, still in time."""

import pytest
import torch

from trainer.transforms.self_blend import batch_self_blend

SEEDS = torch.arange(40, dtype=torch.int32) * 1001


@pytest.fixture
def clips():
    """float (40, 2, 3, 32, 32), the same smooth picture in all frames"""
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    picture = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(0.1, 0.9)
    return picture[None].expand(40, 2, -1, -1, -1)


def test_one_of_middle_and_surroundings_stays_as_it_was(clips):
    blended = batch_self_blend(clips, SEEDS)
    assert blended.shape == clips.shape
    assert blended.min() >= 0 and blended.max() <= 1
    change = (blended - clips).abs().amax((1, 2))  # (40, 32, 32)
    corners = torch.stack([change[:, y, x] for y in (0, 31) for x in (0, 31)]).amax(0)
    middle = change[:, 14:18, 14:18].amax((1, 2))
    is_inside = corners < 1e-3  # the copy was blended into the middle
    assert 8 < is_inside.sum() < 32, "either is the changed one, by chance"
    assert (middle[is_inside] > 0.005).all()
    assert (corners[~is_inside] > 0.005).all()


def test_every_frame_is_changed_alike_and_every_clip_by_its_own_draw(clips):
    blended = batch_self_blend(clips, SEEDS)
    assert torch.equal(blended[:, 0], blended[:, 1])
    assert torch.allclose(blended[7:8], batch_self_blend(clips[7:8], SEEDS[7:8]), atol=1e-5)
    flat = blended.flatten(1)
    assert torch.cdist(flat, flat).fill_diagonal_(1).min() > 0.1
