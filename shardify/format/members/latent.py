"""The latent of a picture as a member of a sample: what a frozen autoencoder makes of it, with the record of that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from shardify.format.members.array import NumpyFile
from shardify.format.members.base import MAX_BYTES, is_whole

TEXTS = ("class", "sha256", "trained_on")  # that `vae` has beside its config


@dataclass(frozen=True, kw_only=True)
class Latent(NumpyFile):
    """`<key>.latent.npy`, float16 (2C, h, w): mean, then log-variance, of the posterior of one picture.

    `mean`, `std`, `posterior_std`, `min`, `max` and `scaling_factor` are of the `count` pictures of train alone: of
    their posteriors' means, each in float16 as stored.
    """

    kind: ClassVar[str] = "latent"
    name: str = "latent"
    sides: tuple[int, int, int]  # 2C, h, w; in index.json it is `shape`
    vae: Mapping  # class, config, sha256 of the weights, trained_on
    input_range: tuple[float, float]  # of the pixels that the autoencoder takes
    downsampling: int  # pixels per latent, along a side
    batch: int  # pictures that were encoded at a time; the last ones are repeated where fewer are left
    device: str  # cpu | cuda
    source: str  # index_sha256 of the shards folder whose pictures they are
    count: int
    mean: tuple[float, ...]  # (C,)
    std: tuple[float, ...]  # (C,)
    posterior_std: tuple[float, ...]  # (C,): root of the mean variance of the posteriors
    min: float
    max: float
    scaling_factor: float  # 1 / the standard deviation over all channels
    reconstruction: Mapping  # split: {mse of pixels in 0 to 1, psnr in dB}

    def __post_init__(self) -> None:
        self._check(self.name == "latent", "name", "latent")
        is_shape = isinstance(self.sides, (list, tuple)) and len(self.sides) == 3
        is_right = is_shape and all(is_whole(side, 1, MAX_BYTES) for side in self.sides) and self.sides[0] % 2 == 0
        self._check(is_right and self.stored_bytes <= MAX_BYTES, "sides", "(2C, h, w), 1 GiB in all at most")
        is_right = isinstance(self.vae, Mapping) and all(isinstance(self.vae.get(name), str) for name in TEXTS)
        is_right = is_right and isinstance(self.vae.get("config"), Mapping)
        self._check(is_right, "vae", f"an object with config, {', '.join(TEXTS)}")
        self._check(_are_numbers(self.input_range, 2), "input_range", "two numbers")
        for field in ("downsampling", "batch", "count"):
            self._check(is_whole(getattr(self, field), 1, 2**63), field, "a count")
        for field in ("device", "source"):
            self._check(isinstance(getattr(self, field), str), field, "a text")
        for field in ("mean", "std", "posterior_std"):
            least = -math.inf if field == "mean" else 0
            is_right = _are_numbers(getattr(self, field), self.channels, least)
            self._check(is_right, field, f"{self.channels} numbers, one of each channel")
        self._check(_are_numbers([self.min, self.max], 2), "min", "a number, as the max")
        is_right = _are_numbers([self.scaling_factor], 1) and self.scaling_factor > 0
        self._check(is_right, "scaling_factor", "a number above 0")
        is_right = isinstance(self.reconstruction, Mapping) and all(
            map(_is_reconstruction, self.reconstruction.values())
        )
        self._check(is_right, "reconstruction", "mse and psnr by split")
        for field in ("sides", "input_range", "mean", "std", "posterior_std"):
            object.__setattr__(self, field, tuple(getattr(self, field)))  # JSON has lists

    @property
    def channels(self) -> int:
        """C, of the mean and of the log-variance each."""
        return self.sides[0] // 2

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float16)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return tuple(self.sides)

    def picture(self, values: np.ndarray) -> np.ndarray:
        """The channels of the mean from left to right, each from black to white over six standard deviations."""
        mean, std = (np.array(each, np.float32)[:, None, None] for each in (self.mean, self.std))
        standard = (values[: self.channels] - mean) / np.maximum(std, np.finfo(np.float32).tiny)
        grey = (255 * (standard + 3) / 6).clip(0, 255).astype(np.uint8)
        return np.repeat(np.concatenate(list(grey), axis=1)[..., None], 3, axis=2)

    def notes(self) -> list[str]:
        shape = " × ".join(map(str, (self.channels, *self.sides[1:])))
        low, high = self.input_range
        vae = f"{self.vae['class']}, SHA-256 {self.vae['sha256'][:12]}…, trained on {self.vae['trained_on']}"
        mean, std = (" ".join(f"{value:.3f}" for value in values) for values in (self.mean, self.std))
        losses = ", ".join(f"{split} {found['psnr']:.1f} dB" for split, found in self.reconstruction.items())
        return [
            f"latents {shape} of pixels in {low:g} to {high:g}, by {vae}",
            f"over the {self.count} of train: mean {mean}; std {std}; scaling_factor {self.scaling_factor:.4g}",
            f"pictures decoded from them (PSNR): {losses}",
        ]

    def to_dict(self) -> dict:
        about = super().to_dict()
        return {"kind": about.pop("kind"), "shape": about.pop("sides"), **about}

    @classmethod
    def from_dict(cls, name: str, about: Mapping) -> Latent:
        return super().from_dict(name, {**about, "sides": about["shape"]} if "shape" in about else about)


def _are_numbers(values: object, count: int, least: float = -math.inf) -> bool:
    is_list = isinstance(values, (list, tuple)) and len(values) == count
    return is_list and all(type(value) in (int, float) and math.isfinite(value) and value >= least for value in values)


def _is_reconstruction(figures: object) -> bool:
    return isinstance(figures, Mapping) and _are_numbers([figures.get("mse"), figures.get("psnr")], 2)
