"""One draw per clip from (seed, epoch, number); the same change for all its frames."""

import numpy as np
import pytest
import torch

from trainer.augment import augment, batch_colour, batch_crop, batch_flip, draw, normalise, to_float
from trainer.settings import AugmentSettings

ALL = AugmentSettings(flip=0.5, crop=0.7, brightness=0.3, contrast=0.3, saturation=0.3)
NUMBERS = np.array([11, 5, 42, 7])


@pytest.fixture
def clips():
    """float (4, 3, 3, 16, 16) in [0, 1]"""
    return torch.rand(4, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3


def of(values):
    return torch.tensor(values, dtype=torch.float32)


def test_a_clips_change_does_not_depend_on_its_batch(clips):
    whole = augment(clips, ALL, 1, 2, NUMBERS)
    alone = [augment(clips[i : i + 1], ALL, 1, 2, NUMBERS[i : i + 1]) for i in range(4)]
    assert torch.allclose(whole, torch.cat(alone), atol=1e-6)
    assert torch.equal(whole, augment(clips, ALL, 1, 2, NUMBERS))


def test_draws_change_with_seed_epoch_and_number():
    rows = [draw(seed, epoch, np.array([number])) for seed in (0, 1) for epoch in (0, 1) for number in (0, 1)]
    assert len({row.tobytes() for row in rows}) == 8
    many = draw(0, 0, np.arange(2000))
    assert many.min() >= 0
    assert many.max() < 1
    assert np.abs(many.mean(0) - 0.5).max() < 0.03


def test_all_frames_are_changed_alike(clips):
    still = clips[:, :1].expand(-1, 3, -1, -1, -1)
    changed = augment(still, ALL, 0, 0, NUMBERS)
    assert torch.allclose(changed, changed[:, :1].expand_as(changed), atol=1e-6)
    assert not torch.allclose(changed, still, atol=0.01)


def test_flip_mirrors_the_chosen_clips(clips):
    flipped = batch_flip(clips, torch.tensor([True, False, True, False]))
    assert torch.equal(flipped[[0, 2]], clips[[0, 2]].flip(-1))
    assert torch.equal(flipped[[1, 3]], clips[[1, 3]])


def test_flip_shares():
    line = torch.zeros(500, 1, 3, 1, 2)
    line[..., 0] = 1
    plain = {"crop": 1.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
    for share in (0.0, 0.3, 1.0):
        flipped = augment(line, AugmentSettings(flip=share, **plain), 0, 0, np.arange(500))[:, 0, 0, 0, 1].mean()
        assert flipped == pytest.approx(share, abs=0.06)


def test_the_largest_crop_is_the_clip_itself(clips):
    ones = torch.ones(4)
    assert torch.allclose(batch_crop(clips, ones, ones * 0.2, ones * 0.9, smallest=0.5), clips, atol=1e-5)


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_a_crop_takes_the_drawn_corner(x, y):
    clip = torch.zeros(1, 2, 3, 16, 16)
    clip[..., 8 * int(y) : 8 * int(y) + 8, 8 * int(x) : 8 * int(x) + 8] = 1
    cropped = batch_crop(clip, of([0]), of([x]), of([y]), smallest=0.5)
    assert cropped.shape == clip.shape
    assert cropped[..., 1:-1, 1:-1].min() > 0.99


def test_colour(clips):
    one = torch.ones(4)
    assert torch.allclose(batch_colour(clips, one, one, one), clips, atol=1e-6)
    brighter = batch_colour(clips, of([1.2, 1, 1, 1]), one, one)
    assert torch.allclose(brighter[0], clips[0] * 1.2, atol=1e-6)
    assert torch.allclose(brighter[1:], clips[1:], atol=1e-6)
    flat = batch_colour(clips, one, one * 0, one)
    assert torch.allclose(flat[2], clips[2].mean().expand_as(flat[2]), atol=1e-6)
    grey = batch_colour(clips, one, one, one * 0)
    luma = (clips * of([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(2, keepdim=True)
    assert torch.allclose(grey, luma.expand_as(grey), atol=1e-6)
    loud = batch_colour(clips, one * 9, one, one)
    assert loud.max() == 1


def test_everything_off_changes_nothing(clips):
    off = AugmentSettings(flip=0.0, crop=1.0, brightness=0.0, contrast=0.0, saturation=0.0)
    assert torch.equal(augment(clips, off, 0, 0, NUMBERS), clips)


def test_normalise_and_to_float():
    white = torch.full((1, 2, 3, 4, 4), 255, dtype=torch.uint8)
    floats = to_float(white)
    assert floats.dtype == torch.float32
    assert torch.equal(floats, torch.ones_like(floats))
    expected = (1 - of([0.485, 0.456, 0.406])) / of([0.229, 0.224, 0.225])
    assert torch.allclose(normalise(floats)[0, 0, :, 0, 0], expected)
