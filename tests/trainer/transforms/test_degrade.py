"""Blur, noise, JPEG's losses and repeated frames: one strength per clip, off is the identity."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from trainer.transforms.degrade import (
    batch_blur,
    batch_downscale,
    batch_frame_dropout,
    batch_jpeg,
    batch_noise,
    hashed_uniform,
)

SEEDS = torch.tensor([3, 14, 15], dtype=torch.int32)


@pytest.fixture
def clips():
    """float (3, 6, 3, 20, 20) in [0, 1]"""
    return torch.rand(3, 6, 3, 20, 20, generator=torch.Generator().manual_seed(0))


def of(*values):
    return torch.tensor(values, dtype=torch.float32)


def test_hashed_numbers_are_uniform_and_a_clips_own():
    drawn = hashed_uniform(SEEDS, 50_000)
    assert drawn.min() > 0 and drawn.max() < 1
    assert torch.allclose(drawn.mean(1), torch.tensor(0.5), atol=0.005)
    assert torch.allclose(drawn.var(1), torch.tensor(1 / 12), atol=0.001)
    between = np.corrcoef(drawn.numpy())[np.triu_indices(3, 1)]
    neighbours = [np.corrcoef(row[:-1], row[1:])[0, 1] for row in drawn.numpy()]
    assert np.abs([*between, *neighbours]).max() < 0.02
    assert torch.equal(hashed_uniform(SEEDS[1:2], 50_000)[0], drawn[1])


def test_blur_is_a_gaussian_of_the_clips_own_width():
    point = torch.zeros(3, 2, 3, 41, 41)
    point[..., 20, 20] = 1
    blurred = batch_blur(point, of(0, 1, 3))
    assert torch.equal(blurred[0], point[0])
    for clip, sigma in ((1, 1.0), (2, 3.0)):
        picture = blurred[clip, 1, 2]
        assert picture.sum().item() == pytest.approx(1, abs=1e-4)
        place = torch.arange(41) - 20.0
        assert (picture.sum(0) * place**2).sum().sqrt().item() == pytest.approx(sigma, rel=0.01)
        assert picture[20, 20 + 1] / picture[20, 20] == pytest.approx(np.exp(-0.5 / sigma**2), rel=1e-4)


def test_blur_does_not_darken_the_edges(clips):
    white = torch.ones_like(clips)
    assert torch.allclose(batch_blur(white, of(0.5, 2, 9)), white, atol=1e-5)


def test_downscaling_is_that_of_pillow_for_each_clip_by_its_own_factor():
    clips = torch.rand(4, 2, 3, 24, 24)
    found = batch_downscale(clips, of(1, 4, 2.4, 24))
    for own, clip, size in zip(found.numpy(), clips.numpy(), (24, 6, 10, 1), strict=True):
        for change, frame in zip(own.reshape(-1, 24, 24), clip.reshape(-1, 24, 24), strict=True):
            small = Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR)
            assert np.abs(change - small.resize((24, 24), Image.Resampling.BILINEAR)).max() < 1e-4
    assert torch.equal(found[0], clips[0])


def test_noise_has_the_clips_strength_and_differs_between_frames():
    grey = torch.full((3, 4, 3, 64, 64), 0.5)
    noisy = batch_noise(grey, of(0, 0.05, 0.1), SEEDS)
    assert torch.equal(noisy[0], grey[0])
    for clip, std in ((1, 0.05), (2, 0.1)):
        assert noisy[clip].std((1, 2, 3)).tolist() == pytest.approx([std] * 4, rel=0.03)  # in every frame
        frames = (noisy[clip] - 0.5).flatten(1).numpy()
        assert np.abs(np.corrcoef(frames)[np.triu_indices(4, 1)]).max() < 0.05
        assert abs(frames.mean()) < 0.002
    alone = batch_noise(grey[2:], of(0.1), SEEDS[2:])
    assert torch.equal(alone[0], noisy[2])


@pytest.mark.parametrize("size", [48, 45])
def test_jpeg_is_what_a_jpeg_encoder_does(size):
    small = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
    picture = np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC))
    qualities = [10, 50, 90]
    clip = torch.from_numpy(picture.copy()).permute(2, 0, 1).float().div(255).expand(3, 2, 3, size, size)
    found = batch_jpeg(clip, of(*qualities)).mul(255).permute(0, 1, 3, 4, 2).numpy()
    for compressed, quality in zip(found, qualities, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=0)
        expected = np.asarray(Image.open(buffer)).astype(float)
        lost = np.abs(expected - picture).mean()
        assert np.abs(compressed - expected).mean() < max(0.4 * lost, 1)  # rounding apart, the same losses
        assert np.array_equal(compressed[0], compressed[1])


def test_jpeg_of_the_best_quality_changes_next_to_nothing(clips):
    assert (batch_jpeg(clips, of(100, 100, 100)) - clips).abs().max() < 0.02


def test_dropped_frames_repeat_the_last_one_kept():
    frames = torch.arange(2000.0).view(1, 2000, 1, 1, 1).expand(2, 2000, 3, 1, 1)
    found = batch_frame_dropout(frames, 0.3, SEEDS[:2])[:, :, 0, 0, 0]
    is_kept = found == torch.arange(2000.0)
    assert is_kept[:, 0].all()
    assert is_kept.float().mean(1).tolist() == pytest.approx([0.7, 0.7], abs=0.05)
    assert not torch.equal(is_kept[0], is_kept[1])
    for clip in range(2):
        for t in (~is_kept[clip]).nonzero()[:, 0].tolist():
            assert found[clip, t] == found[clip, t - 1]


def test_no_dropout_is_the_identity(clips):
    assert torch.equal(batch_frame_dropout(clips, 0.0, SEEDS), clips)
