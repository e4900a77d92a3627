"""Frame encoders (backbones): frames (N, 3, S, S) become features (N, D)."""

from __future__ import annotations

import difflib
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint_sequential
from torchvision.models.resnet import BasicBlock, conv1x1

from trainer.errors import SettingsError, first_sentence
from trainer.models.weights import NO_FILE, PIXELS, hub_file, load_backbone, read_weights
from trainer.transforms.clips import MEAN, STD, renormalisation

# of names without a tag, the weights that torchvision publishes; of all others, timm's default (docs/models.md)
TAGS = {"resnet18": "tv_in1k", "resnet34": "tv_in1k", "resnet50": "tv2_in1k", "resnet101": "tv2_in1k"}


class TinyResNet(nn.Module):
    """A stem of 8 channels and three stages of one basic block, 16, 32 and 64 channels: for small frames, few cores.

    The blocks of He et al., "Deep residual learning for image recognition" (2016), section 4.2, n = 1; unlike there,
    the first stage halves the picture too, since on a CPU full resolution takes most of the time (docs/lab-notes.md).
    """

    num_features = 64

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.stages = nn.Sequential(_halving_block(8, 16), _halving_block(16, 32), _halving_block(32, 64))
        self.grad_checkpointing = False

    def forward(self, frames: Tensor) -> Tensor:
        features = self.stem(frames)
        if self.grad_checkpointing and torch.is_grad_enabled():
            features = checkpoint_sequential(self.stages, len(self.stages), features, use_reentrant=False)
        else:
            features = self.stages(features)
        return features.mean((2, 3))

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """The stages, as timm's models name theirs."""
        return {"stem": r"^stem", "stages": r"^stages\.(\d+)"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Switch gradient checkpointing of the stages, as timm's models do."""
        self.grad_checkpointing = enable


def _halving_block(inputs: int, outputs: int) -> BasicBlock:
    shortcut = nn.Sequential(conv1x1(inputs, outputs, stride=2), nn.BatchNorm2d(outputs))
    return BasicBlock(inputs, outputs, stride=2, downsample=shortcut)


def make_backbone(name: str, weights: str, size: int = 224, drop_path: float = 0.0) -> tuple[nn.Module, int, str]:
    """A frame encoder for frames of `size` pixels, its number of features D, and where its weights came from.

    It takes frames normalised over ImageNet, and changes them itself where its weights expect others. name: `tiny`, or
    a model of timm. weights: `auto` (pretrained where they can be had, else random), `pretrained`, `none`, or a file or
    folder. drop_path: the rate of stochastic depth at the last block. Raises SettingsError where there is no such
    model, it does not take the size, or stated weights cannot be had or do not fit.
    """
    if name == "tiny":
        backbone, features, origin = _tiny(weights, drop_path)
    else:
        backbone, origin = _timm_model(name, weights, size, drop_path)
        features = _count_features(backbone, name, size)
        _expect_imagenet(backbone)
    if weights not in NO_FILE:
        load_backbone(backbone, read_weights(Path(weights)), weights)
        origin = weights
    return backbone, features, origin


def _tiny(weights: str, drop_path: float) -> tuple[TinyResNet, int, str]:
    if weights == "pretrained":
        raise SettingsError("model.weights: tiny has no pretrained weights; use none, auto or another backbone")
    if drop_path:
        raise SettingsError(f"model.drop_path is {drop_path}, but tiny has no drop path; leave it out")
    origin = "random (tiny has no pretrained weights)" if weights == "auto" else "random"
    return TinyResNet(), TinyResNet.num_features, origin


def _timm_model(name: str, weights: str, size: int, drop_path: float) -> tuple[nn.Module, str]:
    """A model of timm without its classifier, and where its weights came from."""
    try:
        import timm
    except ImportError as error:
        raise SettingsError(
            f"model.backbone: {name} is a model of timm ({error}); pip install timm, or use tiny"
        ) from error
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "python -c 'import timm; print(timm.list_models())'"
        raise SettingsError(f"model.backbone: {name} is neither tiny nor a model of timm {timm.__version__}; {hint}")
    full_name = f"{name}.{TAGS[name]}" if name in TAGS else name
    options = {"drop_path_rate": drop_path} if drop_path else {}
    origin = "random"
    try:
        published = timm.get_pretrained_cfg(full_name)
        if published.fixed_input_size:
            options["img_size"] = size
        if weights in ("auto", "pretrained"):
            file, origin = _find_pretrained(published, weights)
            if file:
                options |= {"pretrained": True, "pretrained_cfg_overlay": {"file": str(file)}}
        return timm.create_model(full_name, num_classes=0, **options), origin
    except SettingsError:
        raise
    except Exception as error:  # each model raises what it likes for a size, an option or weights that it cannot have
        raise SettingsError(
            f"model.backbone: timm {timm.__version__} cannot make {full_name} for frames of {size} px with "
            f"model.drop_path={drop_path} ({first_sentence(error)})"
        ) from error


def _find_pretrained(published, weights: str) -> tuple[Path | None, str]:
    """The file of what timm has `published` (its PretrainedCfg), and where the weights come from, in words."""
    hub_id = published.hf_hub_id
    name = hub_id or f"{published.architecture} ({published.url or 'no weights are published'})"
    try:
        if not hub_id:
            raise LookupError("the hub does not have it")
        return hub_file(hub_id), f"timm {hub_id.partition('/')[2]}"
    except Exception as error:  # the hub's client and its HTTP library have dozens of their own
        if weights == "auto":
            return None, f"random ({name} is not cached and cannot be fetched)"
        raise SettingsError(
            f"model.weights: {name} is not cached and cannot be fetched ({first_sentence(error)}); fetch it elsewhere "
            f"and pass --set model.weights=PATH, or use model.weights=none"
        ) from error


def _count_features(backbone: nn.Module, name: str, size: int) -> int:
    """D, from a pass over one frame. Raises SettingsError where the model does not take frames of this size."""
    patch = getattr(getattr(backbone, "patch_embed", None), "patch_size", (1, 1))[0]
    try:
        if size % patch:
            raise ValueError(f"it cuts them into patches of {patch} px")
        with torch.no_grad():
            shape = backbone.eval()(torch.zeros(1, 3, size, size)).shape
    except Exception as error:  # each model raises what it likes
        raise SettingsError(
            f"model.backbone: {name} does not take frames of {size} px ({first_sentence(error)}); its own size is "
            f"{backbone.pretrained_cfg['input_size'][-1]} px, for which shards are built with --size"
        ) from error
    backbone.train()
    if len(shape) != 2:
        raise SettingsError(f"model.backbone: {name} gives no features of a frame, but {tuple(shape)}; use another one")
    return shape[1]


def _expect_imagenet(backbone: nn.Module) -> None:
    """Let the backbone take frames normalised over ImageNet, which all models get, whatever its weights expect.

    The change stands in buffers: a saved model keeps it, whatever another version of timm has as its default.
    """
    mean, std = backbone.pretrained_cfg["mean"], backbone.pretrained_cfg["std"]
    if (tuple(mean), tuple(std)) == (MEAN, STD):
        return
    for name, value in zip(PIXELS, renormalisation(mean, std), strict=True):
        backbone.register_buffer(name, value)
    backbone.register_forward_pre_hook(_rescale)


def _rescale(backbone: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return inputs[0] * backbone.pixel_scale + backbone.pixel_shift
