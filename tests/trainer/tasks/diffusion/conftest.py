"""Latents of small pictures, and a run that has learned them a little."""

import pytest
from latents import build_pictures, fit_pca, make_pictures
from runs import DIFFUSION, run_small

from trainer.tools.latents.encode import EncodeRequest, encode


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    return build_pictures(make_pictures(root / "data"), root / "shards")


@pytest.fixture(scope="session")
def latents(pictures):
    vae = fit_pca(pictures, pictures.parent / "vae.safetensors")
    encode(EncodeRequest(shards=pictures, vae=vae, out=pictures.parent / "latents", devices="cpu"))
    return pictures.parent / "latents"


@pytest.fixture(scope="session")
def run_tiny(latents):
    """Makes such a run in a folder; its record."""

    def make(out, *overrides, resume=False):
        return run_small(latents, out, *DIFFUSION, *overrides, resume=resume)

    return make


@pytest.fixture(scope="session")
def finished(run_tiny, tmp_path_factory):
    """A whole run, and its record."""
    out = tmp_path_factory.mktemp("runs") / "run"
    return out, run_tiny(out)
