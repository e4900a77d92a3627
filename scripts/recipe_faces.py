"""Procedural fakes with their originals, for bench_recipe.py: kinds that a face swap or a generator leaves.

A real clip is a face that sways, under sensor noise. A fake is the same face and sway, with the face's inner region
replaced before the noise comes, by one of

    colour   itself in other colours            (a swap that was not matched to the light)
    soft     itself with fewer pixels           (a generator of a lower resolution)
    grid     itself under a pattern of pixels   (a generator's upsampling)
    swap     the same place of another face
"""

from __future__ import annotations

import csv
import json
from fractions import Fraction
from pathlib import Path

import demo_faces
import numpy as np
from make_demo_videos import write_video

KINDS = ("colour", "soft", "grid", "swap")
PIXELS, FRAMES = 32, 4
NOISE_STD = (1, 4)  # of 255
ENCODING = ("mp4", "libx264", "yuv444p", {"crf": "14", "preset": "superfast"}, 3.0)  # as in make_demo_videos.py


def clip(identity: tuple[int, ...], kind: str) -> np.ndarray:
    """One clip, uint8 (FRAMES, PIXELS, PIXELS, 3): of kind `real`, or a fake made from that."""
    rng = np.random.default_rng(identity)
    still, mask = demo_faces.face(rng, PIXELS, PIXELS)
    sway = demo_faces.drift(rng, FRAMES, 2) * demo_faces.SWAY_STD * PIXELS
    rng = np.random.default_rng([*identity, 1 + ("real", *KINDS).index(kind)])
    frames = demo_faces.shifted(still if kind == "real" else still + mask * (_inner(rng, still, kind) - still), sway)
    std = rng.uniform(*NOISE_STD)
    frames += rng.standard_normal(frames.shape, dtype=np.float32) * np.float32(std)
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def _inner(rng: np.random.Generator, still: np.ndarray, kind: str) -> np.ndarray:
    """What stands in the place of the face's inner region, float32 (PIXELS, PIXELS, 3)."""
    if kind == "colour":
        return still * np.exp(rng.normal(0, 0.3, 3)).astype(np.float32)
    if kind == "soft":
        small = still.reshape(PIXELS // 2, 2, PIXELS // 2, 2, 3).mean((1, 3))
        return small.repeat(2, 0).repeat(2, 1)
    if kind == "grid":
        y, x = np.mgrid[:PIXELS, :PIXELS]
        return still + rng.uniform(12, 24) * ((-1.0) ** (x + y)).astype(np.float32)[..., None]
    other, _ = demo_faces.face(rng, PIXELS, PIXELS)
    return other


def make_videos(data: Path, people: dict[str, int]) -> Path:
    """Videos of so many people in each split, a real one and a fake of each kind; returns the manifest's path.

    Beside it lies a metadata.json as that of DFDC, which names the originals. What a run that was stopped has left is
    written over.
    """
    data.mkdir(parents=True, exist_ok=True)
    rows, metadata = [("path", "class", "split", "group", "kind")], {}
    for number, (split, count) in enumerate(people.items()):
        for person in range(count):
            name = f"{split}{person:03d}"
            for kind in ("real", *KINDS):
                video, class_name = f"{name}_{kind}.mp4", "real" if kind == "real" else "fake"
                write_video(data / video, clip((number, person), kind), ENCODING, Fraction(25))
                rows.append((video, class_name, split, name, "" if kind == "real" else kind))
                original = {} if kind == "real" else {"original": f"{name}_real.mp4"}
                metadata[video] = {"label": class_name.upper(), "split": split} | original
    (data / "metadata.json").write_text(json.dumps(metadata))
    with (data / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return data / "manifest.csv"
