"""Synthetic pictures from a run of the task diffusion, resumed where an earlier attempt was stopped."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from shardify.progress import Progress
from trainer.config.run_folder import hold_plain
from trainer.config.vae import VaeSpec
from trainer.devices.distributed import join_group, num_devices
from trainer.devices.gpu import check_gpu
from trainer.errors import SettingsError, TrainerError
from trainer.models.autoencoders.load import load_vae
from trainer.models.autoencoders.vae import Vae
from trainer.tasks.diffusion.sampling import Sampler, make_scheduler, noise_of, sample
from trainer.tasks.diffusion.saved import SavedDiffusion, load_diffusion, model_folder
from trainer.tools.synthetic.folder import PictureFolder, Wanted

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """What `trainer.generate` is asked for."""

    run: Path
    vae: VaeSpec
    checkpoint: str = "best"  # best, last, or a step of model.keep_steps
    classes: tuple[str, ...] = ()  # by name; none: all
    per_class: int = 50
    guidance: float = 1.0
    rescale: float = 0.0
    sampler: Sampler = "ddim"
    steps: int = 50
    seed: int = 0
    batch_size: int = 16
    devices: str = "auto"


def generate(request: GenerateRequest, out: Path) -> int:
    """Write the pictures that the folder lacks, and its manifest; returns how many pictures it holds then.

    Batches are those of an undisturbed call, whatever is there already, so that its bytes come out. Raises TrainerError
    where the run has no such model, SettingsError where the autoencoder is not that of its latents, a class is not
    known, or the folder holds something else, BusyError while another process fills it.
    """
    device = join_group(num_devices(request.devices) > 0).device
    check_gpu(device)
    saved = load_diffusion(model_folder(request.run, request.checkpoint), device)
    make_scheduler(request.sampler, saved.settings, request.steps, device)  # refuses, before anything is written
    vae = _open_vae(request, saved, device)
    wanted = [Wanted(label, number) for label in _labels(request, saved) for number in range(request.per_class)]
    with hold_plain(out):
        folder = PictureFolder(out, saved.classes, request.seed, _record(request, saved, vae))
        _fill(folder, wanted, request.batch_size, partial(_draw, request, saved, vae))
        return folder.finish()


def _fill(
    folder: PictureFolder, wanted: list[Wanted], batch_size: int, draw: Callable[[Sequence[Wanted]], np.ndarray]
) -> None:
    """Draw the pictures that are missing, a batch at a time, and write them."""
    missing = {each for each in wanted if not folder.path(each).exists()}
    if len(missing) < len(wanted):
        logger.info(f"{folder.folder}: {len(wanted) - len(missing)} of {len(wanted)} pictures are there already")
    with contextlib.closing(Progress(len(missing), "picture")) as progress:
        for start in range(0, len(wanted), batch_size):
            batch = wanted[start : start + batch_size]
            if missing.isdisjoint(batch):
                continue
            for each, pixels in zip(batch, draw(batch), strict=True):
                if each in missing:
                    folder.write(each, pixels)
                    progress.advance(1, failed=False)


def _open_vae(request: GenerateRequest, saved: SavedDiffusion, device: torch.device) -> Vae:
    vae, latent = load_vae(request.vae, device), saved.about["latent"]
    vae.check_is(latent["vae"], f"{request.run}")
    if list(vae.input_range) != list(latent["input_range"]):
        low, high = latent["input_range"]
        raise SettingsError(f"--vae-range: the latents of {request.run} were made of pixels in {low:g} to {high:g}")
    return vae


def _labels(request: GenerateRequest, saved: SavedDiffusion) -> list[int]:
    """The numbers of the wanted classes, in the run's order."""
    for name in request.classes:
        if name not in saved.classes:
            known = ", ".join(saved.classes)
            raise SettingsError(f"--classes {name}: {request.run} has no such class; known: {known}")
    return [label for label, name in enumerate(saved.classes) if not request.classes or name in request.classes]


def _record(request: GenerateRequest, saved: SavedDiffusion, vae: Vae) -> dict:
    """All that decides the pixels of a picture, beside its class and number."""
    return {
        "run": request.run.resolve().name,
        **{name: saved.about[name] for name in ("step", "weights_sha256", "shards")},
        "vae": vae.record,
        "classes": saved.classes,
        **{name: getattr(request, name) for name in ("guidance", "rescale", "sampler", "steps", "seed")},
    }


def _draw(request: GenerateRequest, saved: SavedDiffusion, vae: Vae, batch: Sequence[Wanted]) -> np.ndarray:
    """The pictures of a batch, uint8 (B, S, S, 3). Raises TrainerError where the model makes no numbers."""
    device = vae.device
    noise = torch.stack([noise_of(request.seed, each.label, each.number, saved.shape) for each in batch]).to(device)
    labels = torch.tensor([each.label for each in batch], device=device)
    with torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
    ):
        samples = sample(
            saved.unet, labels, noise, settings=saved.settings, guidance=request.guidance, rescale=request.rescale,
            sampler=request.sampler, steps=request.steps,
        )  # fmt: skip
    images = vae.decode(saved.latents(samples))
    if not torch.isfinite(images).all():
        raise TrainerError(f"{request.run}: its model makes values that are not finite; pass another --checkpoint")
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
