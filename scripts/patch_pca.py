"""Fit a linear autoencoder of pictures in a second: the principal components of patches, as a class for --vae.

    python scripts/patch_pca.py shards/ vae.safetensors [--channels 8] [--patch 8]

It is fitted on the train split alone, and prints the options that name it. It stands in for a real autoencoder where a
try is to be quick, and shows what a class of your own needs: `encode`, `decode` and, if pixels are not to be in −1 to
1, `input_range`.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from shardify.errors import UsageError
from shardify.one_line_errors import failures_as_one_line

COLOURS = 3


class PatchPCA(nn.Module):
    """Patches of P×P pixels as C numbers each: their first principal components. Latents are (B, C, S/P, S/P)."""

    input_range = (0.0, 1.0)

    def __init__(self, channels: int = 8, patch: int = 8) -> None:
        super().__init__()
        self.patch, size = patch, COLOURS * patch**2
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("components", torch.eye(channels, size))  # orthonormal rows

    def encode(self, images: Tensor) -> Tensor:
        patches = pixel_unshuffle(images, self.patch) - self.mean[:, None, None]
        return torch.einsum("cp,bphw->bchw", self.components, patches)

    def decode(self, latents: Tensor) -> Tensor:
        patches = torch.einsum("cp,bchw->bphw", self.components, latents) + self.mean[:, None, None]
        return pixel_shuffle(patches, self.patch)

    @torch.no_grad()
    def fit(self, images: Tensor) -> PatchPCA:
        """Take the principal components of images, float32 (N, 3, S, S) in [0, 1]."""
        patches = pixel_unshuffle(images, self.patch).movedim(1, -1).flatten(0, -2).double()
        self.mean.copy_(patches.mean(0))
        _, vectors = torch.linalg.eigh(torch.cov(patches.T))  # ascending
        components = vectors.T.flip(0)[: len(self.components)]
        largest = components.abs().argmax(1, keepdim=True)
        self.components.copy_(
            components * components.gather(1, largest).sign()
        )  # eigenvectors have no sign of their own
        return self


@click.command()
@click.argument("shards", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--channels", type=click.IntRange(1), default=8, show_default=True, help="Numbers for each patch.")
@click.option("--patch", type=click.IntRange(1), default=8, show_default=True, help="Its sides, pixels.")
@click.option("--pictures", type=click.IntRange(1), default=500, show_default=True, help="Of train, at most.")
def main(shards: Path, out: Path, channels: int, patch: int, pictures: int) -> None:
    """Write the autoencoder's weights to OUT."""
    from safetensors.torch import save_file

    from trainer.data.loader import ClipLoader

    with failures_as_one_line():
        if channels > COLOURS * patch**2:
            raise UsageError(f"--channels is {channels}, but a patch has {COLOURS * patch**2} numbers; pass no more")
        loader = ClipLoader(shards, "train", pictures, shuffle=True)
        if loader.shards.size % patch:
            raise UsageError(f"--patch is {patch}, which does not divide the {loader.shards.size} px of {shards}")
        clips, _ = next(iter(loader))
        loader.close()
        out.parent.mkdir(parents=True, exist_ok=True)
        model = PatchPCA(channels, patch).fit(clips.flatten(0, 1).float() / 255)
        trained_on = f"train of the shards with samples.npy {loader.shards.fingerprint}"
        save_file(model.state_dict(), out, {"trained_on": trained_on})
    options = json.dumps({"channels": channels, "patch": patch})
    click.echo(f"--vae patch_pca:PatchPCA --vae-weights {out} --vae-options '{options}'")


if __name__ == "__main__":
    main()
