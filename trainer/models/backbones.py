"""Frame encoders (backbones): frames (N, 3, S, S) become features (N, D)."""

from __future__ import annotations

from pathlib import Path

import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, conv1x1
from torchvision.models.vision_transformer import interpolate_embeddings

from trainer.errors import SettingsError
from trainer.models.weights import prefix_of, read_weights

VIT_PATCH = 16  # pixels
HEADS = ("fc.", "classifier.", "heads.")  # torchvision's names of a classifier's last layers
NO_FILE = ("auto", "imagenet", "none")  # what model.weights may be beside a path


class TinyResNet(nn.Module):
    """A stem of 8 channels and three stages of one basic block, 16, 32 and 64 channels: for small frames, few cores.

    The blocks of He et al., "Deep residual learning for image recognition" (2016), section 4.2, n = 1; unlike there,
    the first stage halves the picture too, since on a CPU full resolution takes most of the time (docs/lab-notes.md).
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.stages = nn.Sequential(_halving_block(8, 16), _halving_block(16, 32), _halving_block(32, 64))

    def forward(self, frames: Tensor) -> Tensor:
        return self.stages(self.stem(frames)).mean((2, 3))


def _halving_block(inputs: int, outputs: int) -> BasicBlock:
    shortcut = nn.Sequential(conv1x1(inputs, outputs, stride=2), nn.BatchNorm2d(outputs))
    return BasicBlock(inputs, outputs, stride=2, downsample=shortcut)


def make_backbone(name: str, weights: str, size: int = 224) -> tuple[nn.Module, int, str]:
    """A frame encoder for frames of `size` pixels, its number of features D, and where its weights came from.

    weights: `auto` (pretrained where they can be had, else random), `imagenet`, `none`, or a file or a run's folder.
    Raises SettingsError when stated weights cannot be had or do not fit.
    """
    if name == "tiny":
        if weights == "imagenet":
            raise SettingsError("model.weights: tiny has no ImageNet weights; use none, auto or another backbone")
        backbone, features = TinyResNet(), 64
        if weights == "auto":
            return backbone, features, "random (tiny has no pretrained weights)"
    else:
        backbone, features = _torchvision_backbone(name, size)
    return backbone, features, _load_weights(backbone, name, weights, size)


def _torchvision_backbone(name: str, size: int) -> tuple[nn.Module, int]:
    """A torchvision classifier without its last layers."""
    if name == "vit_b_16":
        if size % VIT_PATCH:
            raise SettingsError(f"model.backbone: vit_b_16 needs frames of a multiple of {VIT_PATCH} px, not {size}")
        backbone = torchvision.models.get_model(name, image_size=size)
        features, backbone.heads = backbone.hidden_dim, nn.Identity()
        return backbone, features
    backbone = torchvision.models.get_model(name)
    head = "fc" if name.startswith("resnet") else "classifier"
    features = next(layer.in_features for layer in getattr(backbone, head).modules() if isinstance(layer, nn.Linear))
    setattr(backbone, head, nn.Identity())
    return backbone, features


def _load_weights(backbone: nn.Module, name: str, weights: str, size: int) -> str:
    if weights == "none":
        return "random"
    if weights not in NO_FILE:
        load_backbone(backbone, read_weights(Path(weights)), weights, size)
        return weights
    enum = torchvision.models.get_model_weights(name).DEFAULT
    try:
        state = enum.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        if weights == "imagenet":
            raise SettingsError(
                f"model.weights: {enum.url} cannot be fetched ({error}); download it elsewhere and pass "
                f"--set model.weights=PATH, or use model.weights=none"
            ) from error
        return f"random ({enum.url.rsplit('/', 1)[-1]} is not cached and cannot be fetched)"
    load_backbone(backbone, state, str(enum), size)
    return f"torchvision {enum}"


def load_backbone(backbone: nn.Module, state: dict[str, Tensor], origin: str, size: int) -> None:
    """Load a backbone's own state, or a whole model's; a classifier's last layers in it are left out.

    Raises SettingsError where it does not fit.
    """
    names = list(backbone.state_dict())
    prefix = prefix_of(state, names)
    own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    own = {key: value for key, value in own.items() if not key.startswith(HEADS)}
    if "encoder.pos_embedding" in own:
        own = interpolate_embeddings(size, VIT_PATCH, own)
    try:
        missing, unexpected = backbone.load_state_dict(own, strict=False)
    except RuntimeError as error:  # tensors of other shapes
        raise SettingsError(f"model.weights: {origin} does not fit this backbone ({error})") from error
    if missing or unexpected:
        examples = ", ".join([f"without {name}" for name in missing[:1]] + [f"with {name}" for name in unexpected[:1]])
        raise SettingsError(
            f"model.weights: {origin} does not fit this backbone ({len(missing)} tensors missing, "
            f"{len(unexpected)} unknown; for example {examples})"
        )
