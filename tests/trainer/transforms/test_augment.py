"""One draw per clip from (seed, epoch, number); the same change for all its frames."""

import numpy as np
import pytest
import torch

from trainer.config.settings import AugmentSettings
from trainer.transforms.augment import DRAWS, augment, draw, is_self_blended
from trainer.transforms.clips import normalise, to_float
from trainer.transforms.colour import batch_colour

SHAPES = {
    "flip": 0.5, "crop": 0.7, "brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "blur": 1.0, "jpeg": 30,
    "rotate": 10.0, "shift": 0.1, "grey": 0.3, "downscale": 2.0, "cutout": 0.3,
}  # fmt: skip
ALL = AugmentSettings(**SHAPES, noise=0.05, frame_dropout=0.3)
NUMBERS = np.array([11, 5, 42, 7])


@pytest.fixture
def clips():
    """float (4, 3, 3, 16, 16) in [0, 1]"""
    return torch.rand(4, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3


def of(values):
    return torch.tensor(values, dtype=torch.float32)


def test_a_clips_change_does_not_depend_on_its_batch(clips):
    draws, blended = draw(1, 2, NUMBERS), np.array([True, False, True, False])
    whole = augment(clips, ALL, draws, blended)
    alone = [augment(clips[i : i + 1], ALL, draws[i : i + 1], blended[i : i + 1]) for i in range(4)]
    assert torch.allclose(whole, torch.cat(alone), atol=1e-5)
    assert torch.equal(whole, augment(clips, ALL, draws, blended))
    for seed, epoch in ((0, 2), (1, 3)):
        assert not torch.allclose(whole, augment(clips, ALL, draw(seed, epoch, NUMBERS), blended), atol=0.01)


OFF = {"flip": 0.0, "crop": 1.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}


@pytest.mark.parametrize(
    ("name", "strongest"),
    [
        ("flip", 1.0),
        ("crop", 0.5),
        ("brightness", 0.5),
        ("blur", 2.0),
        ("noise", 0.2),
        ("jpeg", 1),
        ("frame_dropout", 0.9),
        ("rotate", 90.0),
        ("shift", 0.5),
        ("grey", 1.0),
        ("downscale", 8.0),
        ("cutout", 1.0),
    ],
)
def test_each_can_be_turned_on_alone(clips, name, strongest):
    changed = augment(clips, AugmentSettings(**(OFF | {name: strongest})), draw(0, 0, NUMBERS))
    assert changed.shape == clips.shape and changed.min() >= 0 and changed.max() <= 1
    different = (changed - clips).abs().amax((1, 2, 3, 4)) > 0.01
    assert different.sum() >= 3  # of four; a drawn strength may be next to none


def test_fewer_frames_are_the_middles_of_equal_segments():
    clips = torch.arange(16, dtype=torch.uint8).view(1, 16, 1, 1, 1).expand(2, 16, 3, 8, 8)
    for frames, expected in ((4, [2, 6, 10, 14]), (5, [1, 4, 8, 11, 14]), (1, [8]), (16, list(range(16)))):
        chosen = to_float(clips, frames).mul(255).round().int()[1, :, 0, 0, 0].tolist()
        assert chosen == expected


def test_smaller_sizes_are_antialiased_and_channels_last():
    rows = torch.zeros(1, 2, 32, 32, 3, dtype=torch.uint8)
    rows[:, :, ::2] = 200  # lines of one pixel: without antialiasing they would turn into stripes
    small = to_float(rows.permute(0, 1, 4, 2, 3), size=12)
    assert small.shape == (1, 2, 3, 12, 12)
    assert (small[..., 1:-1, :] - 100 / 255).abs().max() < 0.06
    assert small.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_draws_change_with_seed_epoch_and_number():
    rows = [draw(seed, epoch, np.array([number])) for seed in (0, 1) for epoch in (0, 1) for number in (0, 1)]
    assert len({row.tobytes() for row in rows}) == 8
    many = draw(0, 0, np.arange(2000))
    assert many.min() >= 0
    assert many.max() < 1
    assert np.abs(many.mean(0) - 0.5).max() < 0.03


def test_all_frames_are_changed_alike(clips):
    still = clips[:, :1].expand(-1, 3, -1, -1, -1)
    changed = augment(still, AugmentSettings(**SHAPES), draw(0, 0, NUMBERS), np.ones(4, bool))
    assert torch.allclose(changed, changed[:, :1].expand_as(changed), atol=1e-6)
    assert not torch.allclose(changed, still, atol=0.01)


def test_flip_shares():
    line = torch.zeros(500, 1, 3, 1, 2)
    line[..., 0] = 1
    plain = {"crop": 1.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
    for share in (0.0, 0.3, 1.0):
        flipped = augment(line, AugmentSettings(flip=share, **plain), draw(0, 0, np.arange(500)))[:, 0, 0, 0, 1].mean()
        assert flipped == pytest.approx(share, abs=0.06)


HITS = {
    "crop": 0.3, "rotate": 90.0, "shift": 0.5, "brightness": 0.9, "downscale": 8.0, "blur": 3.0, "noise": 0.3,
    "jpeg": 1, "cutout": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("name", HITS)
def test_a_share_of_the_clips_is_hit_and_the_others_stay(name):
    picture = torch.rand(1, 1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    clips = (0.2 + 0.6 * picture).expand(300, -1, -1, -1, -1)
    share = f"{name if name != 'brightness' else 'colour'}_p"
    settings = AugmentSettings(**(OFF | {name: HITS[name], share: 0.4}))
    is_same = (augment(clips, settings, draw(0, 0, np.arange(300))) == clips).all(dim=(1, 2, 3, 4))
    assert is_same.float().mean() == pytest.approx(0.6, abs=0.12)


def test_grey_clips_and_their_share(clips):
    many = clips[:1].expand(300, -1, -1, -1, -1)
    changed = augment(many, AugmentSettings(**(OFF | {"grey": 0.3})), draw(0, 0, np.arange(300)))
    is_grey = (changed.amax(2) - changed.amin(2)).amax((1, 2, 3)) < 1e-5
    assert is_grey.float().mean() == pytest.approx(0.3, abs=0.08)
    assert torch.equal(changed[~is_grey], many[~is_grey])


def test_new_kinds_of_draws_leave_the_others_as_they_were():
    """A run of an earlier version goes on with the same changes."""
    (row,) = draw(3, 1, np.array([7]))
    assert DRAWS[:11] == (
        "flip", "crop", "crop_x", "crop_y", "brightness", "contrast", "saturation", "blur", "noise", "jpeg", "own",
    )  # fmt: skip
    assert np.array_equal(row[:11], np.random.default_rng([3, 1, 7]).random(11, np.float32))


def test_pseudo_fakes_are_a_share_of_the_clips():
    draws = draw(0, 0, np.arange(500))
    for share in (0.0, 0.3, 1.0):
        assert is_self_blended(draws, AugmentSettings(self_blend=share)).mean() == pytest.approx(share, abs=0.06)


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
    assert torch.equal(augment(clips, off, draw(0, 0, NUMBERS)), clips)


def test_normalise_and_to_float():
    white = torch.full((1, 2, 3, 4, 4), 255, dtype=torch.uint8)
    floats = to_float(white)
    assert floats.dtype == torch.float32
    assert torch.equal(floats, torch.ones_like(floats))
    expected = (1 - of([0.485, 0.456, 0.406])) / of([0.229, 0.224, 0.225])
    assert torch.allclose(normalise(floats)[0, 0, :, 0, 0], expected)
