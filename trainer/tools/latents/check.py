"""The check of an autoencoder on pictures, before anything is encoded: its range, its latents, what it loses."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shardify.text import table_lines
from trainer.config.vae import RANGES, VaeSpec
from trainer.devices.distributed import join_group, num_devices
from trainer.devices.gpu import check_gpu
from trainer.errors import FormatError
from trainer.evaluation.metrics import psnr
from trainer.models.autoencoders.load import load_vae
from trainer.models.autoencoders.vae import Vae
from trainer.tools.latents.encode import BATCH
from trainer.tools.latents.pictures import open_pictures, to_images
from trainer.tools.latents.statistics import LatentStatistics

LEAST_PSNR = 20.0  # dB; what a model of latents makes is never better than this
CLOSE_TO_1 = (0.8, 1.25)  # of standard deviations
MARGIN = 0.5  # dB, by which another range must be better to be named


@dataclass(frozen=True, kw_only=True)
class CheckRequest:
    """What `trainer.check_vae` is asked for."""

    shards: Path
    vae: VaeSpec
    pictures: int = 64  # evenly spread over the split
    split: str = "train"
    devices: str = "auto"


def check_vae(request: CheckRequest) -> tuple[list[str], list[str]]:
    """What is found, in lines, and what is wrong with the autoencoder, none where it can be used.

    Raises FormatError for shards that hold no pictures, SettingsError for an autoencoder that cannot be loaded.
    """
    device = join_group(num_devices(request.devices) > 0).device
    check_gpu(device)
    shards = open_pictures(request.shards).shards
    numbers = shards.numbers(request.split)
    if len(numbers) == 0:
        raise FormatError(f"{shards.name}: has no {request.split} split; name another with --split")
    chosen = numbers[np.linspace(0, len(numbers) - 1, min(request.pictures, len(numbers)), dtype=int)]
    frames = shards.first_member
    pictures = np.concatenate([frames.decode(shards.read(int(number))[0]) for number in chosen])
    vae = load_vae(request.vae, device)
    images = to_images(pictures).split(BATCH)
    latents = np.concatenate([torch.cat(vae.moments(vae.to_input(each)), 1).cpu().numpy() for each in images])
    found = LatentStatistics(latents.shape[1] // 2)
    found.add(latents)
    shape = f"{found.channels} × {' × '.join(map(str, latents.shape[2:]))}"
    smaller = shards.size // latents.shape[2]
    lines = [
        f"autoencoder: {vae.record['class']}, SHA-256 {vae.record['sha256'][:12]}…, "
        f"trained on {vae.record['trained_on']}",
        f"{len(pictures)} pictures of {request.split}, {shards.size} px, in {_words(vae.input_range)}; "
        f"latents {shape}, {smaller} times smaller",
        f"values that are not finite (NaN, infinity): {found.not_finite} of {latents.size}",
    ]
    if found.not_finite:
        return lines, [f"{found.not_finite} values of its latents are not finite"]
    lines += _about_latents(found)
    return _about_pictures(vae, images, lines)


def _about_latents(found: LatentStatistics) -> list[str]:
    figures, (mean, std) = found.figures(), found.overall()
    names = ("mean", "std", "posterior_std")
    rows = zip(*(figures[name] for name in names), strict=True)
    table = [("channel", "mean", "std", "posterior std")]
    table += [(number, *(f"{value:.3f}" for value in row)) for number, row in enumerate(rows)]
    lines = [
        *table_lines(table),
        f"all channels: mean {mean:.3f}, std {std:.3f}, min {figures['min']:.3f}, max {figures['max']:.3f}, "
        f"scaling_factor {figures['scaling_factor'] or 0:.4g}",
    ]
    low, high = CLOSE_TO_1
    if all(low <= value <= high for value in (std, *figures["std"])):
        return [*lines, "std is close to 1 in every channel: any model.normalise will do; channel is the default"]
    return [
        *lines,
        "std is far from 1: train with model.normalise=channel, the default, which standardises each channel; "
        "as they are, many timesteps of these latents would be noise alone",
    ]


def _about_pictures(vae: Vae, images: tuple[Tensor, ...], lines: list[str]) -> tuple[list[str], list[str]]:
    """The reconstruction in each range of pixels, and which one is better."""
    wrong, found = [], {bounds: _loss(vae, bounds, images) for bounds in {vae.input_range: None} | _RANGES}
    for bounds, mse in found.items():
        shown = f"MSE {mse:.3g}, PSNR {psnr(mse):.1f} dB" if np.isfinite(mse) else "not finite"
        lines.append(f"reconstruction with pixels in {_words(bounds)}: {shown}")
    finite = {bounds: psnr(mse) for bounds, mse in found.items() if np.isfinite(mse)}
    if vae.input_range not in finite:
        return lines, ["its reconstructions are not finite"]
    best = max(finite, key=finite.get)
    if finite[best] < finite[vae.input_range] + MARGIN:
        best = vae.input_range
    option = next((name for name, bounds in RANGES.items() if bounds == best), None)
    advice = f"; pass --vae-range {option}" if best != vae.input_range else ""
    lines.append(f"the better range is {_words(best)}{advice}")
    own = finite[vae.input_range]
    if own < LEAST_PSNR:
        wrong = [f"its reconstruction has a PSNR of {own:.1f} dB, and {LEAST_PSNR:g} is the least to work with{advice}"]
    return lines, wrong


_RANGES = dict.fromkeys(RANGES.values())


def _loss(vae: Vae, bounds: tuple[float, float], images: tuple[Tensor, ...]) -> float:
    """The mean squared error of pictures that go through it with pixels in this range, in 0 to 1."""
    other = dataclasses.replace(vae, input_range=bounds)
    errors = []
    for each in images:
        mean, _ = other.moments(other.to_input(each))
        errors.append((other.decode(mean).cpu() - each).square().double().mean((1, 2, 3)))
    return float(torch.cat(errors).mean())


def _words(bounds: tuple[float, float]) -> str:
    return f"[{bounds[0]:g}, {bounds[1]:g}]"
