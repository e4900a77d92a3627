import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from latents import PATCH, SIZE, Mean
from torch import nn

from trainer.config.vae import VaeSpec
from trainer.errors import SettingsError
from trainer.models.autoencoders.load import load_vae

CPU = torch.device("cpu")
IMAGES = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny AutoencoderKL as diffusers saves it, with a second file of its weights as torch saves them."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    model = diffusers.AutoencoderKL(block_out_channels=(4, 4), latent_channels=2, norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)  # fmt: skip
    out = tmp_path_factory.mktemp("vae")
    model.save_pretrained(out)
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": state, "step": 1}, out / "model.pth")
    return out


def test_a_folder_and_its_weights_with_the_config_are_one_autoencoder(folder):
    whole = load_vae(VaeSpec(vae=str(folder)), CPU)
    parts = load_vae(VaeSpec(vae=str(folder / "model.pth"), config=folder / "config.json"), CPU)
    assert whole.shape(SIZE) == (2, SIZE // 2, SIZE // 2) and whole.input_range == (-1, 1)
    for one, other in zip(whole.moments(IMAGES), parts.moments(IMAGES), strict=True):
        assert torch.equal(one, other)
    mean, _ = whole.moments(whole.to_input(IMAGES))
    pictures = whole.decode(mean)
    assert pictures.shape == IMAGES.shape and pictures.min() >= 0 and pictures.max() <= 1
    assert not any(parameter.requires_grad for parameter in whole.model.parameters())
    assert whole.record["class"] == "diffusers:AutoencoderKL" and whole.record["trained_on"] == "unknown"
    assert whole.record["config"]["latent_channels"] == 2
    assert len({whole.record["sha256"], parts.record["sha256"]}) == 2  # of two files
    json.dumps(whole.record)


def test_names_of_old_releases_of_diffusers_are_known(folder, tmp_path):
    state = torch.load(folder / "model.pth")["state_dict"]
    old = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}
    for new, name in old.items():
        state = {key.replace(new, name): value for key, value in state.items()}
    assert any("query" in key for key in state)
    torch.save(state, tmp_path / "old.pth")
    spec = VaeSpec(vae=str(tmp_path / "old.pth"), config=folder / "config.json")
    expected = load_vae(VaeSpec(vae=str(folder)), CPU).moments(IMAGES)[0]
    assert torch.equal(load_vae(spec, CPU).moments(IMAGES)[0], expected)


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: without(state, "encoder.conv_in.bias"), "it has no encoder.conv_in.bias"),
        (lambda state: state | {"extra": torch.ones(1)}, "which has no extra"),
        (lambda state: state | {"quant_conv.bias": torch.ones(9)}, r"quant_conv.bias is \(9,\), not \(4,\)"),
        (lambda state: state | {"code": SimpleNamespace()}, "not a readable weights file"),
    ],
)
def test_weights_that_do_not_fit_are_one_line_with_the_first_key(folder, tmp_path, change, words):
    plain = {
        key.removeprefix("module."): value for key, value in torch.load(folder / "model.pth")["state_dict"].items()
    }
    torch.save(change(plain), tmp_path / "model.pth")
    with pytest.raises(SettingsError, match=rf"^--vae: .*model.pth.*{words}") as error:
        load_vae(VaeSpec(vae=str(tmp_path / "model.pth"), config=folder / "config.json"), CPU)
    assert "\n" not in str(error.value)


def test_a_class_takes_its_options_and_weights(tmp_path):
    state = nn.Linear(3, 2).state_dict()
    torch.save(state, tmp_path / "weights.pth")
    spec = VaeSpec(vae=f"{__name__}:Linear", weights=tmp_path / "weights.pth", options={"outputs": 2})
    vae = load_vae(spec, CPU)
    assert torch.equal(vae.model.weight, state["weight"])
    assert vae.record["config"] == {"outputs": 2} and vae.shape(SIZE) == (3, SIZE, SIZE)
    with pytest.raises(SettingsError, match=r"^--vae-weights: .*weight is \(2, 3\), not \(1, 3\)"):
        load_vae(VaeSpec(vae=spec.vae, weights=spec.weights), CPU)


class Linear(nn.Linear):
    def __init__(self, outputs=1):
        super().__init__(3, outputs)

    def encode(self, images):
        return images

    decode = encode


class Tied(Mean):
    """Two layers of the same weights."""

    def __init__(self, input_range=(0, 1)):
        super().__init__()
        self.first = self.second = nn.Linear(2, 2)
        self.input_range = input_range


def test_tied_weights_have_a_hash_too():
    assert len(load_vae(VaeSpec(vae=f"{__name__}:Tied"), CPU).record["sha256"]) == 64


@pytest.mark.parametrize("given", ["0..1", [1, 1], [0], [0, float("inf")], 1])
def test_an_input_range_that_is_none_is_one_line(given):
    with pytest.raises(SettingsError, match=r"^--vae: the input_range of .*:Tied is .*; it must be two numbers"):
        load_vae(VaeSpec(vae=f"{__name__}:Tied", options={"input_range": given}), CPU)


class Gives(Mean):
    """Its mean, and a log-variance of `logvar`, as what `kind` says."""

    def __init__(self, kind: str, logvar: float = -2.0):
        super().__init__()
        self.kind, self.logvar = kind, logvar

    def encode(self, images):
        mean = super().encode(images)
        logvar = torch.full_like(mean, self.logvar)
        return {
            "tensor": mean,
            "pair": (mean, logvar),
            "latent_dist": SimpleNamespace(latent_dist=SimpleNamespace(mean=mean, logvar=logvar)),
            "distribution": torch.distributions.Normal(mean, (logvar / 2).exp()),
            "odd": (mean, logvar[:, :1]),
            "text": "latents",
        }[self.kind]

    def decode(self, latents):
        return (
            SimpleNamespace(sample=super().decode(latents)) if self.kind == "latent_dist" else super().decode(latents)
        )


@pytest.mark.parametrize(("kind", "logvar"), [("tensor", -30), ("pair", -2), ("latent_dist", -2), ("distribution", -2)])
def test_whatever_encode_gives_becomes_a_mean_and_a_log_variance(kind, logvar):
    vae = load_vae(VaeSpec(vae=f"{__name__}:Gives", options={"kind": kind}, input_range=(0, 1)), CPU)
    mean, found = vae.moments(IMAGES)
    assert torch.equal(mean, nn.functional.avg_pool2d(IMAGES, PATCH))
    assert torch.allclose(found, torch.full_like(found, logvar), atol=1e-5)
    assert vae.decode(mean).shape == IMAGES.shape


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"vae": "nowhere"}, "nowhere is not there"),
        ({"vae": "nowhere:Class"}, "cannot be imported .* put that folder on PYTHONPATH"),
        ({"vae": "latents:Mean", "options": {"size": 1}}, "does not take these --vae-options"),
        ({"vae": "latents:Mean", "config": "c.json"}, "--vae-config goes with a weights file"),
        ({"vae": "torch.nn:Flatten"}, "has no encode"),
        ({"vae": "{folder}", "options": {"a": 1}}, "--vae-options goes with a class"),
        ({"vae": "{folder}/model.pth"}, "--vae-config"),
        ({"vae": "{folder}/model.pth", "config": "{folder}/model.pth"}, "the config .* cannot be read"),
        ({"vae": "{tmp}"}, "has no config.json"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(folder, tmp_path, spec, words):
    filled = {
        name: value.format(folder=folder, tmp=tmp_path) if isinstance(value, str) else value
        for name, value in spec.items()
    }
    with pytest.raises(SettingsError, match=words) as error:
        load_vae(VaeSpec(**filled | {"config": Path(filled["config"]) if "config" in filled else None}), CPU)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("kind", "words"), [("odd", "both must be"), ("text", "cannot encode")])
def test_code_that_fails_is_one_line(kind, words):
    vae = load_vae(VaeSpec(vae=f"{__name__}:Gives", options={"kind": kind}), CPU)
    with pytest.raises(SettingsError, match=rf"^--vae: {__name__}:Gives.*{words}"):
        vae.moments(IMAGES)


def test_another_autoencoder_than_the_recorded_one_is_refused():
    vae = load_vae(VaeSpec(vae="latents:Mean", options={"scale": 2.0}), CPU)
    vae.check_is(json.loads(json.dumps(vae.record)), "run")
    for other in ({"scale": 3.0}, {}):
        load_vae(VaeSpec(vae="latents:Mean", options=other), CPU)
    with pytest.raises(SettingsError, match=r"^--vae: run has latents of latents:Mean"):
        load_vae(VaeSpec(vae="latents:Mean", options={"scale": 3.0}), CPU).check_is(vae.record, "run")
    with pytest.raises(SettingsError, match="SHA-256 ab"):
        vae.check_is(vae.record | {"sha256": "abc"}, "run")


def test_without_diffusers_the_remedy_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(SettingsError, match=r"pip install 'shardify\[diffusion\]'"):
        load_vae(VaeSpec(vae=str(folder)), CPU)
