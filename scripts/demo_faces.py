"""Procedural faces for the demo: what a clip shows, before any encoder sees it (numpy only).

Every clip, real or fake, is a face whose inner region has been blended back in with a colour gain that
changes over time and a position that jitters smoothly. The kinds differ in one thing each:

    real     sensor noise everywhere, the gain drifts slowly
    spatial  as real, but the blended region has no sensor noise     (any single frame shows it)
    flicker  as real, but the gain is drawn anew for every frame     (the same law for each frame)
    order    as real, but the frames' gains are shuffled in time     (the same values in each clip)

So nothing in a single frame tells flicker or order from real, and no set of frames without their order tells
order from real; the clip's mean gain, too, has the same variance in all kinds (see `drift`).
"""

from __future__ import annotations

import numpy as np

KINDS = ("real", "spatial", "flicker", "order")
GAIN_STD = 0.05  # of the log gain, per colour channel
NOISE_STD = (12, 16)  # of 255, lowest and highest: a phone at night
JITTER_STD = 0.012  # of the blended region's position, in picture heights
SWAY_STD = 0.008  # of the whole picture's position, in picture heights
DRIFT_CYCLES = (0.6, 1.8)  # slow: periods of the drift per clip
SAMPLED_FRAMES = 16  # what the demo's shards hold of a clip


def drift(rng: np.random.Generator, num_frames: int, channels: int) -> np.ndarray:
    """Smooth random paths: float64 (num_frames, channels), each value N(0, 1).

    Two sinusoids of random period and Gaussian amplitudes, and a constant. The constant's share is set so
    that the mean of a path has the variance 1/16 that the mean of 16 independent draws has: without it the
    frames of a real clip would scatter more than those of a flicker clip around a better-kept mean.
    """
    time = (np.arange(num_frames) + 0.5) / num_frames
    constant = _constant_share()
    path = np.sqrt(constant) * rng.standard_normal((1, channels)).repeat(num_frames, axis=0)
    for _ in range(2):
        angle = 2 * np.pi * rng.uniform(*DRIFT_CYCLES, channels) * time[:, None]
        cosine, sine = rng.standard_normal((2, channels)) * np.sqrt((1 - constant) / 2)
        path += cosine * np.cos(angle) + sine * np.sin(angle)
    return path


def _constant_share() -> float:
    """The c that solves c + (1 - c)·v = 1/16, where v is the variance of a sinusoid's mean over the clip."""
    cycles = np.linspace(*DRIFT_CYCLES, 1001)
    of_sinusoid = np.mean(np.sinc(cycles) ** 2)
    return float(max(0.0, (1 / SAMPLED_FRAMES - of_sinusoid) / (1 - of_sinusoid)))


def gains(rng: np.random.Generator, kind: str, num_frames: int) -> np.ndarray:
    """Colour gains of the blended region: float64 (num_frames, 3)."""
    log_gain = drift(rng, num_frames, 3)
    if kind == "flicker":
        log_gain = rng.standard_normal((num_frames, 3))
    elif kind == "order":
        log_gain = rng.permutation(log_gain, axis=0)
    return np.exp(GAIN_STD * log_gain)


def clip(rng: np.random.Generator, kind: str, num_frames: int, height: int, width: int) -> np.ndarray:
    """One clip: uint8 (num_frames, height, width, 3), RGB."""
    still, mask = face(rng, height, width)
    sway = drift(rng, num_frames, 2) * SWAY_STD * height
    jitter = drift(rng, num_frames, 2) * JITTER_STD * height
    outer = shifted(still, sway)
    frames = shifted(still, sway + jitter)
    frames *= gains(rng, kind, num_frames).astype(np.float32)[:, None, None, :]
    mask = shifted(mask, sway + jitter)
    frames -= outer  # in place: a clip is large, and this is most of the demo's time before training
    frames *= mask
    frames += outer
    noise = sensor_noise(rng, frames.shape)
    frames += noise * (1 - mask) if kind == "spatial" else noise
    return np.clip(np.rint(frames, out=frames), 0, 255, out=frames).astype(np.uint8)


def sensor_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Independent between frames; its grain is wider than a pixel, as demosaicing and scaling leave it."""
    std = rng.uniform(*NOISE_STD)
    num_frames, height, width, _ = shape
    grain = max(1, round(height / 32))  # alike in small and large videos, and still there at 32 pixels
    coarse = (num_frames, -(-height // grain), -(-width // grain), 3)
    noise = rng.standard_normal(coarse, dtype=np.float32) * np.float32(std)
    return noise.repeat(grain, axis=1).repeat(grain, axis=2)[:, :height, :width]


def shifted(image: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(H, W, C) moved by (T, 2) pixels, down and right, bilinear, edges repeated: (T, H, W, C)."""
    height, width, channels = image.shape
    whole = np.floor(offsets).astype(int)
    fraction = (offsets - whole).astype(np.float32)
    margin = int(np.abs(whole).max()) + 2
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    out = np.empty((len(offsets), height, width, channels), np.float32)
    for frame, ((down, right), (part_y, part_x)) in enumerate(zip(whole, fraction, strict=True)):
        top, left = margin - down - 1, margin - right - 1
        window = padded[top : top + height + 1, left : left + width + 1]
        rows = window[1:] * (1 - part_y) + window[:-1] * part_y
        out[frame] = rows[:, 1:] * (1 - part_x) + rows[:, :-1] * part_x
    return out


def face(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A still face, float32 (H, W, 3) in 0..255, and the mask of its inner region, (H, W, 1) in 0..1."""
    unit = 0.6 * min(height, width)  # a face detector's crop: the face fills it
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = (y + 0.5 - height / 2) / unit, (x + 0.5 - width / 2) / unit
    centre_y, centre_x = rng.uniform(-0.06, 0.06, 2)
    y, x = y - centre_y, x - centre_x
    long, wide = rng.uniform(0.72, 0.85), rng.uniform(0.52, 0.64)

    def ellipse(at_y: float, at_x: float, radius_y: float, radius_x: float, soft: float = 0.1) -> np.ndarray:
        radius = np.sqrt(((y - at_y) / radius_y) ** 2 + ((x - at_x) / radius_x) ** 2)
        return np.clip((1 + soft - radius) / (2 * soft), 0, 1)[..., None]

    skin = np.array([225, 180, 150]) * rng.uniform(0.6, 1.0) + rng.normal(0, 6, 3)
    hair = rng.uniform(20, 110) * np.array([1.1, 0.9, 0.7])
    waves = np.sin(x * rng.uniform(2, 9) + y * rng.uniform(2, 9) + rng.uniform(0, 6))
    slopes = rng.normal(0, 15, (3, 1)) + rng.normal(0, 6, (3, 3))
    image = rng.uniform(70, 170) + rng.normal(0, 15, 3) + np.stack([x, y, waves], axis=-1) @ slopes
    light = (1 + rng.normal(0, 0.12) * x + rng.normal(0, 0.08) * y - 0.15 * (x**2 + y**2))[..., None]
    eye_y, eye_x, mouth_y = rng.uniform(-0.2, -0.1), rng.uniform(0.2, 0.27), rng.uniform(0.36, 0.46)
    layers = [
        (ellipse(-0.15, 0, long * 1.02, wide * 1.15), hair),
        (ellipse(0.05, 0, long * 0.92, wide), skin * light),
        (ellipse(0.14, 0, 0.15, rng.uniform(0.05, 0.09), 0.5) * 0.35, skin * 0.75),
        (ellipse(mouth_y, 0, rng.uniform(0.04, 0.08), rng.uniform(0.15, 0.24), 0.3), skin * [0.8, 0.5, 0.5]),
    ]
    for side in (-1, 1):
        layers += [
            (ellipse(eye_y - 0.15, side * eye_x, 0.035, 0.13, 0.4), hair),
            (ellipse(eye_y, side * eye_x, 0.065, 0.11, 0.3), np.array([225, 225, 220])),
            (ellipse(eye_y, side * eye_x, 0.055, 0.05, 0.3), rng.uniform(30, 100, 3)),
        ]
    for cover, colour in layers:
        image = image + cover * (colour - image)
    mask = ellipse(0.1, 0, long * 0.68, wide * 0.8, 0.15)
    return image.astype(np.float32), mask.astype(np.float32)
