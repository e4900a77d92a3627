"""The settings of the model of video and sound."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from trainer.config.settings import PositiveInt, Share
from trainer.errors import SettingsError

MODALITIES = ("video", "audio")
SAVED = "(those of a run)"  # the `weights` of an encoder that a run's file will fill


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    encoder: str = "auto"  # auto | tiny | r3d_18 | a video model of transformers: its name on the hub, folder or type
    options: dict = field(default_factory=dict)  # of its config.json, for a model of transformers
    weights: str = "auto"  # auto | none | a file, or a folder that holds one
    freeze: bool = False


@dataclass(frozen=True, kw_only=True)
class AudioSettings:
    encoder: Literal["auto", "tiny", "resnet18"] = "auto"
    weights: str = "auto"  # auto | none | a file
    freeze: bool = False


@dataclass(frozen=True, kw_only=True)
class FusionSettings:
    width: PositiveInt = 512  # of a token
    layers: PositiveInt = 2
    heads: PositiveInt = 8  # of each attention
    bottlenecks: PositiveInt = 4
    dropout: Share = 0.1  # in the layers, and before the classifier

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise SettingsError(
                f"model.fusion.heads is {self.heads}; it must divide model.fusion.width, which is {self.width}"
            )


@dataclass(frozen=True, kw_only=True)
class MultimodalSettings:
    name: str = "multimodal"
    modalities: list[Literal["video", "audio"]] = field(default_factory=lambda: [*MODALITIES])
    modality_dropout: Share = 0.0  # share of the clips that are trained on without one of their modalities
    video: VideoSettings = field(default_factory=VideoSettings)
    audio: AudioSettings = field(default_factory=AudioSettings)
    fusion: FusionSettings = field(default_factory=FusionSettings)

    # settings of other models that this one does not have
    backbone, weights, freeze, unfreeze_every, batch_norm = None, "none", "none", 0, "train"
    gradient_checkpointing = compile = False

    def __post_init__(self) -> None:
        if not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise SettingsError(f"model.modalities is {self.modalities}; use [video, audio], [video] or [audio]")
        if self.modality_dropout and len(self.modalities) == 1:
            raise SettingsError(
                f"model.modality_dropout is {self.modality_dropout}, but the one modality is {self.modalities[0]}"
            )

    @property
    def described(self) -> str:
        """The model in words."""
        return "multimodal: " + ", ".join(f"{name} by {getattr(self, name).encoder}" for name in self.modalities)

    def for_saved_weights(self) -> MultimodalSettings:
        """The same model, whose weights will come from a run's file."""
        video, audio = (dataclasses.replace(each, weights=SAVED) for each in (self.video, self.audio))
        return dataclasses.replace(self, video=video, audio=audio)
