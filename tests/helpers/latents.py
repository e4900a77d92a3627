"""Folders of small pictures as shards, and the linear autoencoder of scripts/patch_pca.py that is fitted to them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from shardify.build.build import build
from shardify.build.request import BuildRequest
from shardify.format.settings import BuildSettings
from trainer.config.vae import VaeSpec

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))  # --vae patch_pca:PatchPCA finds it there

SIZE, PATCH, CHANNELS = 16, 4, 6
COUNTS = {"train": 21, "val": 5, "test": 4}  # of each of two classes: a shard is no whole number of batches


def make_pictures(data: Path) -> Path:
    """Smooth pictures `split/class/number.png`, those of class b brighter."""
    for split, count in COUNTS.items():
        for label, name in enumerate("ab"):
            (data / split / name).mkdir(parents=True)
            for i in range(count):
                rng = np.random.default_rng([label, i, *split.encode()])
                colours = (rng.integers(0, 160, (4, 4, 3)) + 90 * label).astype(np.uint8)
                picture = Image.fromarray(colours).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
                picture.save(data / split / name / f"{i:02d}.png")
    return data


def build_pictures(data: Path, out: Path) -> Path:
    report = build(BuildRequest(data, out, BuildSettings(frames=1, size=SIZE, shard_size=20), workers=1))
    assert report.failed_inputs == 0, report.failures
    return out


def fit_pca(shards: Path, weights: Path) -> VaeSpec:
    """The options of a patch-PCA that is fitted to train."""
    from click.testing import CliRunner
    from patch_pca import main

    options = {"channels": CHANNELS, "patch": PATCH}
    arguments = [str(shards), str(weights), *(f"--{name}={value}" for name, value in options.items())]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return VaeSpec(vae="patch_pca:PatchPCA", weights=weights, options=options)


class Mean(nn.Module):
    """An autoencoder of 4×4 patches' means as three channels, times `scale`; pixels in 0 to 1 come out of it."""

    def __init__(self, scale: float = 1.0, spoil: float = 0.0) -> None:
        super().__init__()
        self.scale, self.spoil = scale, spoil

    def encode(self, images):
        latents = nn.functional.avg_pool2d(images, PATCH) * self.scale
        return torch.where(latents > self.spoil, torch.nan, latents) if self.spoil else latents

    def decode(self, latents):
        return nn.functional.interpolate(latents / self.scale, scale_factor=PATCH).clamp(0, 1)
