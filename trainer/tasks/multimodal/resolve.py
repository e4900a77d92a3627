"""The encoders that `auto` comes to, and what the user should know of that."""

from __future__ import annotations

import dataclasses

import torch

from trainer.config.settings import Settings
from trainer.tasks.multimodal import hub

LICENCE = (
    "published weights of VideoMAE (MCG-NJU), and what is trained on from them, are licensed CC-BY-NC-4.0: not for "
    "commercial use"
)


def resolve_encoders(settings: Settings, device: torch.device) -> tuple[Settings, list[str]]:
    """The settings with definite encoders, and notes. Raises SettingsError."""
    model, notes = settings.model, []
    on_gpu = device.type == "cuda"
    if "video" in model.modalities:
        video = model.video
        if video.encoder == "auto":
            name, why = hub.find_default()
            if not name:
                name = "r3d_18" if on_gpu else "tiny"
                notes.append(f"model.video.encoder auto: {name}, a 3D CNN, in place of VideoMAE: {why}")
            video = dataclasses.replace(video, encoder=name)
        if video.encoder not in ("tiny", "r3d_18") and not video.options:
            video = dataclasses.replace(video, options=hub.read_options(video.encoder))
        if video.options.get("model_type") == "videomae" and hub.names_weights(video):
            notes.append(LICENCE)
        model = dataclasses.replace(model, video=video)
    if "audio" in model.modalities and model.audio.encoder == "auto":
        encoder = "resnet18" if on_gpu else "tiny"
        model = dataclasses.replace(model, audio=dataclasses.replace(model.audio, encoder=encoder))
    return dataclasses.replace(settings, model=model), notes
