"""Frame encoders of timm by name: what they take, and where their weights come from."""

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from trainer.errors import SettingsError
from trainer.models.backbones import TAGS, make_backbone
from trainer.transforms.clips import normalise

PIXELS = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
FRAMES = normalise(PIXELS[None])[0]


@pytest.mark.parametrize(
    ("name", "size", "features"),
    [("tiny", 32, 64), ("resnet18", 32, 512), ("test_efficientnet", 37, 256), ("test_vit", 48, 64)],
)
def test_features_of_frames(name, size, features):
    torch.manual_seed(0)
    backbone, count, origin = make_backbone(name, "none", size)
    assert (count, backbone.training) == (features, True)
    assert backbone(torch.randn(2, 3, size, size)).shape == (2, features)
    assert origin.startswith("random")


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "vit_xsmall_patch16_clip_224"])
def test_each_gets_pixels_as_its_weights_expect_them(name):
    torch.manual_seed(0)
    backbone, _, _ = make_backbone(name, "none", 32)
    plain = timm.create_model(name, num_classes=0, img_size=32 if "vit" in name else None)
    state = backbone.state_dict()
    plain.load_state_dict({name: value for name, value in state.items() if not name.startswith("pixel_")})
    mean, std = (torch.tensor(getattr(timm.get_pretrained_cfg(name), key)).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        assert torch.allclose(backbone.eval()(FRAMES), plain.eval()((PIXELS - mean) / std), atol=1e-4)


def test_the_change_of_pixels_is_saved_with_the_model():
    state = make_backbone("test_vit", "none", 32)[0].state_dict()
    assert state["pixel_scale"].flatten().tolist() == pytest.approx([0.458, 0.448, 0.45])
    assert state["pixel_shift"].flatten().tolist() == pytest.approx([-0.03, -0.088, -0.188])
    assert "pixel_scale" not in make_backbone("resnet18", "none", 32)[0].state_dict()


@pytest.mark.parametrize(
    ("name", "size", "options", "message"),
    [
        ("resnet51", 32, {}, r"resnet51 is neither tiny nor a model of timm \S+; did you mean resnet"),
        ("?", 32, {}, r"neither tiny nor a model of timm .*list_models"),
        ("resnet50.no_tag", 32, {}, r"cannot make resnet50\.no_tag .*no_tag"),
        ("test_vit", 40, {}, "does not take frames of 40 px .*patches of 16 px.* its own size is 160 px, .*--size"),
        ("dla46_c", 37, {}, "does not take frames of 37 px .* its own size is 224 px"),
        ("dla46_c", 32, {"drop_path": 0.1}, r"cannot make dla46_c .*drop_path=0\.1 \(.*drop_path_rate"),
        ("tiny", 32, {"drop_path": 0.1}, "tiny has no drop path"),
    ],
)
def test_what_cannot_be_had(name, size, options, message):
    with pytest.raises(SettingsError, match=message) as caught:
        make_backbone(name, "none", size, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet"])
def test_drop_path(name):
    torch.manual_seed(0)
    rates = []
    for rate in (0.0, 0.5):
        backbone, _, _ = make_backbone(name, "none", 32, rate)
        rates.append([part.drop_prob for part in backbone.modules() if type(part).__name__ == "DropPath"])
    assert not any(rates[0])
    assert rates[1] == sorted(rates[1]) and 0.4 <= rates[1][-1] <= 0.5, "the last block's is the largest"


# weights of files


def test_files_of_torchvision_give_its_features(tmp_path):
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18().eval()
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    backbone, _, _ = make_backbone("resnet18", str(tmp_path / "x.pth"), 32)
    theirs.fc = torch.nn.Identity()
    with torch.no_grad():
        assert torch.allclose(backbone.eval()(FRAMES), theirs(FRAMES), atol=1e-5)
    with torch.device("meta"):  # without memory, and without the time to draw 25 million numbers
        theirs, own = torchvision.models.resnet50(), timm.create_model("resnet50")
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (theirs, own)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet", "test_resnet"])
def test_files_of_timm_with_another_head(name, tmp_path):
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=7).state_dict()
    torch.save({"state_dict": {f"module.{key}": value for key, value in theirs.items()}}, tmp_path / "x.pth.tar")
    backbone, _, origin = make_backbone(name, str(tmp_path / "x.pth.tar"), 160)
    own = {key: value for key, value in backbone.state_dict().items() if not key.startswith("pixel_")}
    assert all(torch.equal(value, theirs[key]) for key, value in own.items())
    assert origin == str(tmp_path / "x.pth.tar")


def test_positions_are_interpolated_to_the_size(tmp_path):
    theirs = timm.create_model("test_vit", num_classes=0, img_size=64).state_dict()
    theirs["pos_embed"] = torch.arange(17.0)[None, :, None].expand(1, 17, 64).contiguous()
    save_file(theirs, tmp_path / "x.safetensors")
    backbone, _, _ = make_backbone("test_vit", str(tmp_path / "x.safetensors"), 32)
    got = backbone.pos_embed[0, :, 0]
    assert got.shape == (5,)
    assert got[0] == 0, "the class token's stays"
    assert got[1:].mean().item() == pytest.approx(8.5, abs=0.01)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_another_models_file_is_refused_in_one_line(name, tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "x.pth")
    with pytest.raises(SettingsError, match=r"x\.pth does not fit this backbone .*(conv1|layer1)\.") as caught:
        make_backbone(name, str(tmp_path / "x.pth"), 32)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


# weights of the hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A cache of the hub's without a file in it, and no way to the hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    return tmp_path


@pytest.mark.parametrize("name", ["resnet18", "test_efficientnet.r160_in1k"])
def test_stated_weights_that_cannot_be_fetched(hub, name):
    message = rf"timm/{name}\S* is not cached and cannot be fetched.*model\.weights=PATH"
    with pytest.raises(SettingsError, match=message):
        make_backbone(name, "pretrained", 32)


def test_auto_goes_on_without_pretrained_weights(hub):
    _, features, origin = make_backbone("resnet18", "auto", 32)
    assert (features, origin) == (512, "random (timm/resnet18.tv_in1k is not cached and cannot be fetched)")


def test_no_weights_are_published():
    with pytest.raises(SettingsError, match=r"test_maxvit \(no weights are published\) .*the hub does not have it"):
        make_backbone("test_maxvit", "pretrained", 160)


def test_tiny_has_none():
    with pytest.raises(SettingsError, match="tiny has no pretrained weights"):
        make_backbone("tiny", "pretrained")
    assert make_backbone("tiny", "auto")[2].startswith("random")


@pytest.mark.parametrize("weights", ["auto", "pretrained"])
def test_the_hubs_cache_is_enough(hub, weights):
    """Its layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache."""
    theirs = timm.create_model("test_vit", num_classes=1000).state_dict()
    repository = hub / "models--timm--test_vit.r160_in1k"
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    save_file(theirs, repository / "snapshots" / "abc" / "model.safetensors")
    backbone, _, origin = make_backbone("test_vit", weights, 32)
    assert origin == "timm test_vit.r160_in1k"
    assert torch.equal(backbone.blocks[5].mlp.fc2.weight, theirs["blocks.5.mlp.fc2.weight"])
    assert backbone.pos_embed.shape[1] == 5


def test_the_default_weights_of_resnets_exist():
    assert all(timm.get_pretrained_cfg(f"{name}.{tag}").hf_hub_id for name, tag in TAGS.items())
