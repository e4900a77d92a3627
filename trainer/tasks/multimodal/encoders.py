"""Encoders of clips and of spectrograms: each gives a token per moment, float (B, moments, D)."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from http.client import HTTPException
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import WeightsEnum
from torchvision.models.video import R3D_18_Weights, r3d_18

from trainer.errors import SettingsError
from trainer.models.weights import prefix_of, read_weights, torchvision_state
from trainer.tasks.multimodal import hub
from trainer.tasks.multimodal.renormalise import Renormalise
from trainer.tasks.multimodal.settings import SAVED, AudioSettings, VideoSettings

NO_FILE = ("auto", "none", SAVED)  # what `weights` may be beside a path


class TinyVideo(nn.Module):
    """Three 3D convolutions for small frames on few cores: clips (B, T, 3, S, S) to (B, T/2, 256).

    A token has the means of the picture's four quarters: a turn is told by where something moves which way.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(nn.Conv3d, nn.BatchNorm3d, 3, 16, stride=(1, 2, 2)),
            *_convolution(nn.Conv3d, nn.BatchNorm3d, 16, 32, stride=(2, 2, 2)),
            *_convolution(nn.Conv3d, nn.BatchNorm3d, 32, 64, stride=(1, 2, 2)),
        )

    def forward(self, clips: Tensor) -> Tensor:
        maps = self.layers(clips.transpose(1, 2))  # (B, 64, T/2, h, w)
        height, width = maps.shape[3:]
        half, side = -(-height // 2), -(-width // 2)
        rows = (maps[..., :half, :], maps[..., height - half :, :])
        quarters = [part for row in rows for part in (row[..., :side], row[..., width - side :])]
        return torch.cat([part.mean((3, 4)) for part in quarters], dim=1).transpose(1, 2)


class ResNet3D(nn.Module):
    """torchvision's r3d_18 (Tran et al., "A closer look at spatiotemporal convolutions", 2018), T/8 moments of 512."""

    def __init__(self) -> None:
        super().__init__()
        own = R3D_18_Weights.DEFAULT.transforms()
        self.layers = _without_classifier(r3d_18())
        self.renormalise = Renormalise(own.mean, own.std)

    def forward(self, clips: Tensor) -> Tensor:
        return self.layers(self.renormalise(clips).transpose(1, 2)).mean((3, 4)).transpose(1, 2)


class TinyAudio(nn.Module):
    """Four convolutions for small spectrograms on few cores: (B, 1, M, F) to (B, F/16, 64)."""

    def __init__(self) -> None:
        super().__init__()
        pairs = itertools.pairwise((1, 16, 32, 64, 64))
        layers = [layer for pair in pairs for layer in _convolution(nn.Conv2d, nn.BatchNorm2d, *pair, stride=2)]
        self.layers = nn.Sequential(nn.BatchNorm2d(1), *layers)

    def forward(self, mel: Tensor) -> Tensor:
        return self.layers(mel).mean(2).transpose(1, 2)


class ResNetAudio(nn.Module):
    """torchvision's resnet18 without its pool, averaged over frequency: (B, 1, M, F) to (B, F/32, 512)."""

    def __init__(self) -> None:
        super().__init__()
        whole = torchvision.models.resnet18()
        whole.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(1)
        self.layers = _without_classifier(whole)

    def forward(self, mel: Tensor) -> Tensor:
        return self.layers(self.norm(mel)).mean(2).transpose(1, 2)


def _without_classifier(whole: nn.Module) -> nn.Sequential:
    """A torchvision ResNet without its pool and classifier, its parts by their names."""
    return nn.Sequential(OrderedDict(list(whole.named_children())[:-2]))


def _convolution(kind: type[nn.Module], norm: type[nn.Module], inputs: int, outputs: int, stride) -> list[nn.Module]:
    return [kind(inputs, outputs, 3, stride, padding=1, bias=False), norm(outputs), nn.ReLU(inplace=True)]


def make_video(settings: VideoSettings, frames: int, size: int) -> tuple[nn.Module, str]:
    """The encoder of clips (B, frames, 3, size, size), normalised over ImageNet, and where its weights came from.

    The encoder's name is a definite one, as of `resolve_encoders`. Raises SettingsError.
    """
    if settings.encoder == "tiny":
        return _tiny(TinyVideo(), "model.video", settings.weights)
    if settings.encoder != "r3d_18":
        return hub.make_encoder(settings, frames, size)
    encoder = ResNet3D()
    return encoder, _load(encoder.layers, "model.video", settings.weights, R3D_18_Weights.DEFAULT)


def make_audio(settings: AudioSettings) -> tuple[nn.Module, str]:
    """The encoder of log mel spectrograms, float (B, 1, M, F), and its weights' origin. Raises SettingsError."""
    if settings.encoder == "tiny":
        return _tiny(TinyAudio(), "model.audio", settings.weights)
    encoder = ResNetAudio()
    default = torchvision.models.ResNet18_Weights.DEFAULT
    return encoder, _load(encoder.layers, "model.audio", settings.weights, default)


def _tiny(encoder: nn.Module, group: str, weights: str) -> tuple[nn.Module, str]:
    if weights not in NO_FILE:
        raise SettingsError(f"{group}.weights is {weights}, but tiny has no weights to load; use none")
    return encoder, "random"


def _load(layers: nn.Module, group: str, weights: str, published: WeightsEnum) -> str:
    """Load published weights, or those of a file, whose classifier is left out; where they came from.

    Raises SettingsError where they do not fit.
    """
    if weights in ("none", SAVED):
        return "random"
    if weights == "auto":
        try:
            state = torchvision_state(published)
        except (OSError, HTTPException, RuntimeError):
            return f"random ({published.url.rsplit('/', 1)[-1]} is not cached and cannot be fetched)"
        origin = f"torchvision {published}"
    else:
        state, origin = read_weights(Path(weights)), weights
    own, prefix = layers.state_dict(), prefix_of(state, layers)
    found = {name: state[prefix + name] for name in own if prefix + name in state}
    if group == "model.audio" and "conv1.weight" in found:
        found["conv1.weight"] = found["conv1.weight"].sum(1, keepdim=True)  # over RGB
    try:
        layers.load_state_dict(found)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise SettingsError(f"{group}.weights: {origin} does not fit this encoder ({reason})") from error
    return origin
