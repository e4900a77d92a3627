import pytest
from latents import build_pictures, fit_pca, make_pictures

from trainer.tools.latents.encode import EncodeRequest, encode


@pytest.fixture(scope="package")
def pictures(tmp_path_factory):
    """Shards of small pictures. Not to be changed: copy them first."""
    root = tmp_path_factory.mktemp("pictures")
    return build_pictures(make_pictures(root / "data"), root / "shards")


@pytest.fixture(scope="package")
def pca(pictures):
    """The options of a patch-PCA that is fitted to them."""
    return fit_pca(pictures, pictures.parent / "pca.safetensors")


@pytest.fixture(scope="package")
def latents(pictures, pca):
    """The same folder with its latents. Not to be changed."""
    encode(EncodeRequest(shards=pictures, vae=pca, out=pictures.parent / "latents", devices="cpu"))
    return pictures.parent / "latents"
