"""Augmentation of spectrograms: masks and loudness, by each clip's own draw."""

import math

import numpy as np
import torch

from shardify.format.members.mel import FLOOR
from trainer.config.settings import AugmentSettings
from trainer.transforms.spectrogram import DRAWS, augment_mel, draw

MELS = torch.randn(3, 1, 20, 40, generator=torch.Generator().manual_seed(0)) - 5


def test_masks_are_stretches_of_bands_and_columns_with_the_clips_mean():
    draws = torch.tensor([[0.5, 0.0, 0.25, 0.5, 0.0], [1.0, 0.9, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    found = augment_mel(MELS, AugmentSettings(frequency_mask=0.5, time_mask=0.4), draws)
    is_masked = found != MELS
    expected = torch.zeros_like(is_masked)
    expected[0, :, :5] = True  # half of at most half of 20 bands
    expected[0, :, :, 18:22] = True  # 4 columns, in the middle
    expected[1, :, 9:19] = True
    assert torch.equal(is_masked, expected)
    assert torch.equal(found[0][expected[0]], MELS[0].mean().expand(expected[0].sum()))


def test_gain_is_in_decibels_of_power_and_keeps_silence():
    draws = torch.zeros(3, 5)
    draws[:, 4] = torch.tensor([1.0, 0.5, 0.0])
    louder, same, softer = augment_mel(MELS, AugmentSettings(gain=10), draws)
    torch.testing.assert_close(louder, MELS[0] + math.log(10))
    torch.testing.assert_close(same, MELS[1])
    torch.testing.assert_close(softer, MELS[2] - math.log(10))
    for dtype in (torch.float32, torch.float16):
        silence = torch.full_like(MELS, FLOOR, dtype=dtype).float()  # a little less in float16, as shards hold it
        assert torch.equal(augment_mel(silence, AugmentSettings(gain=10), draws), silence)


def test_without_settings_nothing_changes_and_draws_depend_on_the_clip_alone():
    seeds = np.array([[4, 0], [7, 1], [4, 1]])
    draws = draw(0, 1, seeds)
    assert draws.shape == (3, DRAWS) and len(np.unique(draws)) == draws.size
    assert np.array_equal(draw(0, 1, seeds[1:]), draws[1:]) and not np.array_equal(draw(0, 2, seeds), draws)
    assert augment_mel(MELS, AugmentSettings(), torch.from_numpy(draws[:, :5])) is MELS
