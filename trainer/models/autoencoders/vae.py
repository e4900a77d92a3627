"""A frozen autoencoder on its device, whichever class it is of: pictures to latents' moments, latents to pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shardify.errors import ShardifyError
from shardify.machine import is_out_of_memory
from trainer.errors import SettingsError
from trainer.models.custom import reason

LEAST, MOST = -30.0, 20.0  # log-variance, as diffusers bounds it; the least where an encoder gives none
IDENTITY = ("class", "sha256")


@dataclass(frozen=True)
class Vae:
    """A frozen autoencoder. Everything is computed in float32, without autocast and without TF32.

    record: what tells it from others, for index.json: `class`, `config`, `sha256` of its weights, `trained_on`.
    Raises SettingsError, one line, where the class's own code fails or gives what does not fit.
    """

    model: nn.Module
    device: torch.device
    input_range: tuple[float, float]  # of the pixels that it takes and gives
    record: dict

    def to_input(self, pictures: Tensor) -> Tensor:
        """Pictures in [0, 1] in the range that the autoencoder takes."""
        low, high = self.input_range
        return pictures * (high - low) + low

    @torch.no_grad()
    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, float32 (B, C, h, w) each, of images, float32 (B, 3, S, S) in its input range."""
        with self._called("encode", images):
            mean, logvar = _moments(self.model.encode(images.to(self.device)))
        if mean.shape != logvar.shape or mean.ndim != 4 or len(mean) != len(images):
            raise SettingsError(
                f"--vae: {self.record['class']} encodes images {tuple(images.shape)} to a mean {tuple(mean.shape)} and "
                f"a log-variance {tuple(logvar.shape)}; both must be (B, C, h, w)"
            )
        return mean.float(), logvar.float().clamp(LEAST, MOST)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """The pictures, float32 (B, 3, S, S) in [0, 1], of latents, float32 (B, C, h, w)."""
        with self._called("decode", latents):
            images = _images(self.model.decode(latents.to(self.device)))
        if images.ndim != 4 or images.shape[:2] != (len(latents), 3):
            raise SettingsError(
                f"--vae: {self.record['class']} decodes latents {tuple(latents.shape)} to {tuple(images.shape)}; it "
                f"must be (B, 3, S, S)"
            )
        low, high = self.input_range
        return ((images.float() - low) / (high - low)).clamp(0, 1)

    def shape(self, size: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of pictures of size×size pixels."""
        mean, _ = self.moments(torch.zeros(1, 3, size, size))
        return tuple(mean.shape[1:])

    def check_is(self, recorded: Mapping[str, Any], where: str) -> None:
        """Raises SettingsError where it is not the autoencoder of this record, as `where` has it."""
        wanted, given = _identity(recorded), _identity(self.record)
        known = given["config"].keys() & wanted["config"].keys()  # releases of diffusers add fields
        if [*map(wanted.get, IDENTITY)] != [*map(given.get, IDENTITY)] or any(
            given["config"][name] != wanted["config"][name] for name in known
        ):
            raise SettingsError(
                f"--vae: {where} has latents of {_named(recorded)}, and this is {_named(self.record)}; pass the same "
                f"one, with the same options"
            )

    @contextlib.contextmanager
    def _called(self, what: str, values: Tensor) -> Iterator[None]:
        exact = torch.backends.cudnn.flags(
            enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
        )
        try:
            with torch.autocast(self.device.type, enabled=False), exact:
                yield
        except Exception as error:  # whatever a class of others raises
            if isinstance(error, ShardifyError) or is_out_of_memory(error):
                raise
            raise SettingsError(
                f"--vae: {self.record['class']} cannot {what} {tuple(values.shape)} ({reason(error)})"
            ) from error


def _moments(encoded: Any) -> tuple[Tensor, Tensor]:
    """Of what `encode` gives: something with `latent_dist`, a distribution, (mean, log-variance), or a tensor."""
    found = getattr(encoded, "latent_dist", encoded)
    if isinstance(found, Tensor):
        return found, torch.full_like(found, LEAST)
    if isinstance(found, (tuple, list)):
        mean, logvar = found
        return mean, logvar
    if hasattr(found, "logvar"):
        return found.mean, found.logvar
    return found.mean, found.variance.log()  # of torch.distributions


def _images(decoded: Any) -> Tensor:
    """Of what `decode` gives: a tensor, something with `sample`, or a tuple whose first value is it."""
    if isinstance(decoded, Tensor):
        return decoded
    return decoded.sample if hasattr(decoded, "sample") else decoded[0]


def _identity(record: Mapping[str, Any]) -> dict:
    return {**{name: record.get(name) for name in IDENTITY}, "config": record.get("config", {})}


def _named(record: Mapping[str, Any]) -> str:
    return f"{record.get('class')} (SHA-256 {str(record.get('sha256'))[:12]}…)"
