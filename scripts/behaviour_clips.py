"""What a clip of the behaviour demo shows and sounds like, before any encoder sees it (numpy only).

Three independent things are drawn for every clip, each of which one kind of data alone tells:

    species  by the colour of the coat           (any single frame shows it; nothing is to be heard of it)
    motion   clockwise or not, on a circle       (only the order of the frames shows it: the animal is a round patch)
    call     chirps that rise, or fall           (only the sound has it: one is the other, played backwards)

The behaviour is the pair of motion and call, four classes. So with both kinds of data all can be known; frames alone
give the species and one of two behaviours, which is right half of the time; sound alone gives no species, and again
one of two behaviours.
"""

from __future__ import annotations

import numpy as np

COATS = {"badger": (105, 110, 130), "fox": (205, 95, 45), "hare": (165, 150, 75)}  # RGB
SPECIES = tuple(COATS)
MOTIONS, CALLS = ("clockwise", "anticlockwise"), ("rising", "falling")

SECONDS = 2.0
SAMPLE_RATE = 16_000  # Hz
NOISE_STD = 10.0  # of 255
RADIUS, ORBIT = (0.14, 0.19), (0.18, 0.24)  # of the animal and of its circle, in picture heights
TURNS = (1.2, 2.0)  # of the circle in a clip
PITCH = (600.0, 1500.0)  # Hz, where a chirp is lowest
SWEEP = (1.8, 2.6)  # the highest of its pitches over the lowest


def frames_of(rng: np.random.Generator, species: str, motion: str, count: int, side: int) -> np.ndarray:
    """A round patch of fur on its way around a point on grass: uint8 (count, side, side, 3), RGB."""
    radius, orbit = side * rng.uniform(*RADIUS), side * rng.uniform(*ORBIT)
    middle = side / 2 + side * rng.uniform(-0.06, 0.06, 2)
    sign = 1 if motion == "clockwise" else -1  # y points down
    angle = rng.uniform(0, 2 * np.pi) + sign * 2 * np.pi * rng.uniform(*TURNS) * np.arange(count) / count
    x, y = middle[0] + orbit * np.cos(angle), middle[1] + orbit * np.sin(angle)
    rows, columns = np.mgrid[:side, :side]
    distance = np.hypot(columns - x[:, None, None], rows - y[:, None, None])
    coverage = np.clip(radius - distance + 0.5, 0, 1)[..., None]
    coat = np.array(COATS[species]) * rng.uniform(0.85, 1.15)
    grass = np.array((70, 105, 55)) * rng.uniform(0.7, 1.3)
    tufts = rng.normal(0, 15, (side // 4, side // 4, 1)).repeat(4, 0).repeat(4, 1)
    noise = rng.normal(0, NOISE_STD, (count, side, side, 1))
    pictures = grass + tufts + coverage * (coat - grass - tufts) + noise
    return np.clip(pictures, 0, 255).round().astype(np.uint8)


def sound_of(rng: np.random.Generator, call: str) -> np.ndarray:
    """Two or three chirps of one animal in wind: float32 (SECONDS · SAMPLE_RATE,), within ±1."""
    samples = rng.normal(0, 0.01 * rng.uniform(0.5, 2), round(SECONDS * SAMPLE_RATE))
    low, sweep, loudness = rng.uniform(*PITCH), rng.uniform(*SWEEP), rng.uniform(0.15, 0.5)
    count = rng.integers(2, 4)
    for start in (np.arange(count) + rng.uniform(0.15, 0.45, count)) / count * SECONDS:
        length = rng.uniform(0.2, 0.3)
        time = np.arange(round(length * SAMPLE_RATE)) / SAMPLE_RATE
        phase = 2 * np.pi * low * length / np.log(sweep) * (sweep ** (time / length) - 1)
        chirp = loudness * np.sin(phase + rng.uniform(0, 2 * np.pi)) * np.hanning(len(time))
        first = round(start * SAMPLE_RATE)
        samples[first : first + len(chirp)] += (chirp if call == "rising" else chirp[::-1])[: len(samples) - first]
    return np.clip(samples, -1, 1).astype(np.float32)
