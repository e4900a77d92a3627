"""What a radar sees of a person who walks towards it: the walk's velocities, the echo, its spectrogram as a picture.

The walk is that of Boulic, Thalmann and Thalmann, "A global human walking model with real-time kinematic
personification" (1990), as Chen, "The Micro-Doppler Effect in Radar" (2011), chapter 4, uses it: the speed and the
length of a cycle follow from the height of the thigh and from the relative velocity. The velocities of single points
are simpler than there: a foot stands still in support and swings as a power of a sine, arms and torso move as sines.
"""

from __future__ import annotations

import math

import matplotlib
import numpy as np
from PIL import Image
from scipy.special import gamma

CARRIER, LIGHT = 24.125e9, 299_792_458.0  # Hz, m/s
RATE = 2560  # echoes per second
SECONDS = 2.4  # of a window
WINDOW, HOP, BINS = 128, 24, 256  # of the short-time Fourier transform, in echoes
FLOOR = -42.0  # dB below the strongest value of a picture, drawn as the map's darkest colour
COLOURS = (matplotlib.colormaps["viridis"](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)

# what makes up a person's walk: the range from which a person's value is drawn evenly
PERSON = {
    "height": (1.55, 1.92),  # m
    "relative_velocity": (1.15, 1.75),  # thigh heights per second
    "swing": (0.40, 0.48),  # share of the cycle in which a foot is in the air
    "foot_power": (0.8, 1.6),  # of the sine of a foot's swing
    "left_arm": (0.2, 0.9),  # amplitude of the hand's velocity, as a share of the walk's
    "right_arm": (0.2, 0.9),
    "arm_phase": (-0.12, 0.12),  # cycles
    "torso": (0.05, 0.3),  # amplitude, as a share of the walk's velocity; it moves twice a cycle
    "torso_phase": (0.0, 0.6),  # cycles of its own
    "limp": (-0.05, 0.05),  # cycles by which the left step is late
    "foot_echo": (0.15, 0.5),  # amplitude, that of the torso being 1
    "leg_echo": (0.2, 0.6),
    "arm_echo": (0.1, 0.4),
}
FIXED = ("height",)  # does not change from one recording to the next
LEG = ((1.0, 1.0), (0.8, 0.6), (0.6, 0.8), (0.45, 1.0), (0.2, 1.0))  # share of the foot's velocity, weight of the echo
ARM = ((1.0, 1.0), (0.55, 0.8), (0.25, 0.8))  # the same of hand, elbow and upper arm


def draw_person(rng: np.random.Generator) -> dict[str, float]:
    """A person's walk, by the names of PERSON."""
    return {name: float(rng.uniform(*limits)) for name, limits in PERSON.items()}


def draw_recording(rng: np.random.Generator, person: dict[str, float], jitter: float) -> dict[str, float]:
    """The person's walk on another day, with its `start` in the cycle and the `noise` of the receiver.

    jitter: how much people differ from themselves, as a share of what they differ from each other.
    """
    walk = dict(person)
    for name, (low, high) in PERSON.items():
        deviation = jitter * (high - low) / math.sqrt(12)  # of an even distribution
        if name not in FIXED:
            walk[name] = float(np.clip(walk[name] + deviation * rng.normal(), low - deviation, high + deviation))
    return walk | {"start": float(rng.random()), "noise": float(rng.uniform(0.02, 0.06))}


def velocities(walk: dict[str, float], times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Radial velocities in m/s of all points at these times in seconds, (P, N), and how strong their echoes are."""
    speed = walk["relative_velocity"] * 0.491 * walk["height"]  # 0.491: the thigh's height of a body of height 1
    cycle = 1.346 / math.sqrt(walk["relative_velocity"])  # seconds
    phase = walk["start"] + times / cycle
    points, echoes = [], []
    for side, arm in ((0.0, "left_arm"), (0.5, "right_arm")):
        foot = speed * _swing(phase + side + (walk["limp"] if side else 0), walk["swing"], walk["foot_power"])
        for share, weight in LEG:
            points.append(share * foot + (1 - share) * speed)
            echoes.append(weight * walk["foot_echo" if share == 1 else "leg_echo"])
        hand = walk[arm] * np.sin(2 * np.pi * (phase + side + walk["arm_phase"]))
        for share, weight in ARM:
            points.append(speed * (1 + share * hand))
            echoes.append(weight * walk["arm_echo"])
    bob = walk["torso"] * np.sin(2 * np.pi * (2 * phase + walk["torso_phase"]))
    points += [speed * (1 + bob), speed * (1 + 0.5 * bob)]  # torso and head
    echoes += [1.0, 0.3]
    return np.stack(points), np.array(echoes)


def _swing(phase: np.ndarray, share: float, power: float) -> np.ndarray:
    """A foot's velocity by its phase in cycles, with mean 1: 0 in support, sin^power in the `share` that is left."""
    mean = gamma((power + 1) / 2) / (math.sqrt(math.pi) * gamma(power / 2 + 1))  # of sin^power over half a period
    place = (phase % 1 - (1 - share)) / share
    return np.where(place > 0, np.sin(np.pi * place.clip(0, 1)) ** power, 0.0) / (share * mean)


def echo(rng: np.random.Generator, walk: dict[str, float], first_second: float) -> np.ndarray:
    """The window's echo with noise, complex (SECONDS · RATE,)."""
    times = first_second + np.arange(round(SECONDS * RATE)) / RATE
    moving, echoes = velocities(walk, times)
    distances = rng.uniform(0, LIGHT / CARRIER, (len(moving), 1)) - moving.cumsum(1) / RATE
    waves = np.exp((-4j * np.pi * CARRIER / LIGHT) * distances)
    noise = rng.normal(size=(2, len(times))) * walk["noise"]
    return echoes @ waves + noise[0] + 1j * noise[1]


def picture(signal: np.ndarray, size: int) -> Image.Image:
    """The spectrogram of an echo as size×size pixels: time from left to right, velocity towards the radar upwards."""
    pieces = np.lib.stride_tricks.sliding_window_view(signal, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.fftshift(np.fft.fft(pieces, BINS, axis=1), axes=1).T[::-1]) ** 2
    level = 10 * np.log10(power / power.max() + 1e-12)
    index = ((level.clip(FLOOR, 0) / -FLOOR + 1) * 255).round().astype(np.uint8)
    return Image.fromarray(COLOURS[index]).resize((size, size), Image.Resampling.BOX)
