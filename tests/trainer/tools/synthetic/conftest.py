import shutil

import pytest
from latents import build_pictures, fit_pca, make_pictures
from runs import DIFFUSION, run_small

from trainer.tools.latents.encode import EncodeRequest, encode


@pytest.fixture(scope="package")
def pca(tmp_path_factory):
    """The options of a patch-PCA, beside shards of the pictures that it is fitted to, and their latents."""
    root = tmp_path_factory.mktemp("synthetic")
    pictures = build_pictures(make_pictures(root / "data"), root / "shards")
    spec = fit_pca(pictures, root / "vae.safetensors")
    encode(EncodeRequest(shards=pictures, vae=spec, out=root / "latents", devices="cpu"))
    return spec


@pytest.fixture(scope="package")
def run(pca):
    """A finished run of diffusion on them. Not to be changed."""
    root = pca.weights.parent
    run_small(root / "latents", root / "run", *DIFFUSION)
    return root / "run"


@pytest.fixture
def own_run(run, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(run, tmp_path / "run")
