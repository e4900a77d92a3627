"""The saved diffusion model of a run: the UNet with all that is needed to sample latents by it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from shardify.storage.local import file_sha256
from trainer.config.load import from_dict
from trainer.errors import TrainerError
from trainer.models.autoencoders.load import ABOUT, WEIGHTS
from trainer.tasks.diffusion.model import build_unet
from trainer.tasks.diffusion.settings import DiffusionSettings


@dataclass(frozen=True)
class SavedDiffusion:
    """A diffusion model with averaged weights, as a run keeps it in models/."""

    unet: nn.Module  # in evaluation mode, on the device
    settings: DiffusionSettings
    classes: list[str]  # by label
    shape: tuple[int, int, int]  # (C, h, w) of its latents
    mean: Tensor  # (C, 1, 1), by which latents were standardised
    std: Tensor
    about: dict  # what about.json holds: the step, hashes, the autoencoder's record among it

    def latents(self, samples: Tensor) -> Tensor:
        """Standardised latents (B, C, h, w) as the autoencoder decodes them."""
        return samples * self.std + self.mean


def model_folder(run: Path, checkpoint: str) -> Path:
    """The folder of a model of a run; checkpoint: best, last, or a step of model.keep_steps.

    Raises TrainerError, which names those that are there.
    """
    name = f"step-{int(checkpoint):08d}" if checkpoint.isdecimal() else checkpoint
    folder = run / "models" / name
    if (folder / ABOUT).is_file():
        return folder
    found = sorted(path.parent.name for path in run.glob(f"models/*/{ABOUT}") if not path.parent.name.startswith("."))
    known = ", ".join(str(int(each[5:])) if each.startswith("step-") else each for each in found)
    there = f"it has {known}" if known else "it has no diffusion model; pass the run's folder"
    raise TrainerError(f"{run}: has no model of the checkpoint {checkpoint}; {there}")


def load_diffusion(folder: Path, device: torch.device) -> SavedDiffusion:
    """The model in a folder of `model_folder`, whoever has made it: nothing in it is executed.

    Raises TrainerError where it cannot be read, or the weights are not those of its record.
    """
    from safetensors.torch import load_file

    path = folder / ABOUT
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        settings = from_dict(about["settings"]).model
        if not isinstance(settings, DiffusionSettings):
            raise TrainerError(
                f"{folder}: is of a run of model.name={settings.name}, not of diffusion; pass one of that"
            )
        sides = about["latent"]["shape"]
        shape = (sides[0] // 2, *sides[1:])
        if file_sha256(folder / WEIGHTS) != about["weights_sha256"]:
            raise ValueError(f"{WEIGHTS} is not the file that it was saved with")
        unet = build_unet(settings, len(about["classes"]), shape)
        unet.load_state_dict(load_file(folder / WEIGHTS))
        mean, std = (torch.tensor(about[name])[:, None, None].to(device) for name in ("mean", "std"))
    except TrainerError:
        raise
    except Exception as error:  # torch, safetensors and JSON raise a dozen types for damaged files
        raise TrainerError(f"{path}: cannot be read ({error}); train again, or restore the folder") from error
    return SavedDiffusion(unet.to(device).eval(), settings, about["classes"], shape, mean, std, about)
