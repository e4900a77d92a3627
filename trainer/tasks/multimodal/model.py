"""The model of video and sound: an encoder of each, their fusion, a classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shardify.format.members.mel import FLOOR, Mel
from trainer.errors import SettingsError
from trainer.models.precision import without_autocast
from trainer.tasks.multimodal.encoders import make_audio, make_video
from trainer.tasks.multimodal.fusion import BottleneckFusion
from trainer.tasks.multimodal.settings import MODALITIES, SAVED, MultimodalSettings


class MultimodalModel(nn.Module):
    """A model that maps clips and the log mel spectrograms of their sound to logits (B, K).

    clips: float (B, T, 3, S, S), normalised over ImageNet; mel: float (B, 1, M, F); present: bool (B, 2), whether a
    clip has video and sound. A modality that is absent changes no bit of the output, whatever it holds.
    """

    def __init__(self, settings: MultimodalSettings, num_outputs: int, frames: int, size: int, mel: Mel | None) -> None:
        super().__init__()
        makers = {
            "video": lambda: make_video(settings.video, frames, size),
            "audio": lambda: make_audio(settings.audio),
        }
        empty = {"video": torch.zeros(1, frames, 3, size, size)}
        if mel is not None:
            empty["audio"] = torch.zeros(1, *mel.shape)
        self.encoders, origins, shapes, self._frozen = nn.ModuleDict(), [], {}, []
        for name in MODALITIES:
            if name in settings.modalities:
                self.encoders[name], origin = makers[name]()
                origins.append(f"{name}: {origin}")
                own = getattr(settings, name)
                if own.freeze:
                    self._freeze(name, "" if own.weights == SAVED else origin)
                with torch.no_grad():
                    shapes[name] = tuple(self.encoders[name].eval()(empty[name]).shape[1:])
        self.weights_origin = "; ".join(origins)
        self.places = [MODALITIES.index(name) for name in self.encoders]
        self.fusion = BottleneckFusion(shapes, settings.fusion)
        self.head = nn.Sequential(nn.Dropout(settings.fusion.dropout), nn.Linear(settings.fusion.width, num_outputs))
        self.train()

    def _freeze(self, name: str, origin: str) -> None:
        if origin.startswith("random"):
            raise SettingsError(
                f"model.{name}.freeze is true, but its weights are {origin} and would never learn; pass "
                f"model.{name}.weights=PATH, or leave model.{name}.freeze out"
            )
        self.encoders[name].requires_grad_(False)
        self._frozen.append(name)

    def no_weight_decay(self) -> set[str]:
        """Names of the tokens and positions, which weight decay leaves alone, as of timm's models."""
        return {f"fusion.{name}" for name in self.fusion.no_weight_decay()}

    def train(self, mode: bool = True) -> MultimodalModel:
        """As of any module; frozen encoders stay in evaluation mode."""
        super().train(mode)
        for name in self._frozen:
            self.encoders[name].eval()
        return self

    def forward(self, clips: Tensor, mel: Tensor | None = None, present: Tensor | None = None) -> Tensor:
        """A model of video alone may be called with clips alone."""
        return self.head(self._fused(clips, mel, present))

    def attention(self, clips: Tensor, mel: Tensor | None = None, present: Tensor | None = None) -> dict[str, Tensor]:
        """How much each modality's class token attends to its moments, float (B, moments), the mean over layers."""
        kept: dict[str, list[Tensor]] = {}
        self._fused(clips, mel, present, kept)
        moments = {name: position.shape[1] for name, position in self.fusion.positions.items()}
        return {name: torch.stack(layers)[:, :, 0, 1 : 1 + moments[name]].mean(0) for name, layers in kept.items()}

    def _fused(self, clips: Tensor, mel: Tensor | None, present: Tensor | None, kept: dict | None = None) -> Tensor:
        if present is None:
            present = torch.ones(clips.shape[0], len(MODALITIES), dtype=torch.bool, device=clips.device)
        tokens = self._tokens(clips, mel, present)
        with without_autocast(clips.device):  # small beside the encoders, and its gradients are small numbers
            return self.fusion(tokens, present[:, self.places], kept)

    def _tokens(self, clips: Tensor, mel: Tensor, present: Tensor) -> dict[str, Tensor]:
        """Tokens (B, moments, D) of each modality; what is absent is encoded as grey and as silence."""
        inputs, blank = {"video": clips, "audio": mel}, {"video": 0.0, "audio": FLOOR}
        tokens = {}
        for name, encoder in self.encoders.items():
            values = inputs[name]
            has = present[:, MODALITIES.index(name)].view(-1, *[1] * (values.ndim - 1))
            tokens[name] = encoder(torch.where(has, values, blank[name])).float()
        return tokens
