"""Frame encoders (backbones): frames (N, 3, S, S) become features (N, D)."""

from __future__ import annotations

from pathlib import Path

import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, conv1x1
from torchvision.models.vision_transformer import interpolate_embeddings

from trainer.errors import SettingsError
from trainer.torch_files import read_torch_file

VIT_PATCH = 16  # pixels
HEADS = ("fc.", "classifier.", "heads.")  # torchvision's names of a classifier's last layers


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

    weights: `auto` (pretrained where they can be had, else random), `imagenet`, `none`, or a file.
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
    if weights not in ("auto", "imagenet"):
        load_backbone(backbone, _read_file(Path(weights)), weights, size)
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


def _read_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise SettingsError(f"model.weights: {path} is not a file; use auto, imagenet, none or a weights file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = read_torch_file(path)
        return dict((state["model"] if "settings" in state else state).items())  # best_model.pth of a run has both
    except Exception as error:  # the readers raise a dozen types for damaged files
        raise SettingsError(f"model.weights: {path} is not a readable weights file ({error})") from error


def load_backbone(backbone: nn.Module, state: dict, origin: str, size: int) -> None:
    """Load a backbone's own state, or a whole model's of a run; a classifier's last layers in it are left out."""
    of_a_run = {key.partition("backbone.")[2]: value for key, value in state.items() if "backbone." in key}
    state = of_a_run or state
    state = {key: value for key, value in state.items() if not key.startswith(HEADS)}
    if "encoder.pos_embedding" in state:
        state = interpolate_embeddings(size, VIT_PATCH, state)
    try:
        missing, unexpected = backbone.load_state_dict(state, strict=False)
    except RuntimeError as error:  # tensors of other shapes
        raise SettingsError(f"model.weights: {origin} does not fit this backbone ({error})") from error
    if missing or unexpected:
        raise SettingsError(
            f"model.weights: {origin} does not fit this backbone "
            f"({len(missing)} tensors missing, {len(unexpected)} unknown, e.g. {(missing + unexpected)[0]})"
        )
