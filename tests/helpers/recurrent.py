"""Models whose gradients show in which precision their recurrent layers run."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

from trainer.config.settings import ModelSettings
from trainer.models.build import build_model

CLIPS = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
HALF = [torch.bfloat16, torch.float16]


def resnet_lstm():
    torch.manual_seed(0)
    settings = ModelSettings(backbone="tiny", weights="none", lstm_hidden=8, attention_heads=2, dropout=0)
    return build_model(settings, 2, 32)


class Given(nn.Module):
    """Stands for a backbone whose features are known."""

    def __init__(self, features):
        super().__init__()
        self.features = features

    def forward(self, frames):
        return self.features


def gradient_of_features(device, dtype, loss_scale):
    """float32 (frames, features): what the part over time hands down to the backbone."""
    model = resnet_lstm().to(device)
    features = torch.randn(6, 64, generator=torch.Generator().manual_seed(2)).to(device).requires_grad_()
    model.backbone = Given(features)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        logits = model(CLIPS.to(device))
    (nn.functional.cross_entropy(logits.float(), torch.tensor([0, 1], device=device)) * loss_scale).backward()
    return features.grad


class Recurrent(nn.Module):
    """A custom model; `how` says which layer it has and what that is given."""

    def __init__(self, num_classes, kind="LSTM", how="plain"):
        super().__init__()
        self.first, self.how = nn.Linear(3, 8), how
        self.layer = getattr(nn, kind)(8, 4, batch_first=True, bidirectional=True)
        self.head = nn.Linear(8, num_classes)

    def forward(self, clips):
        steps = self.first(clips.mean((3, 4)))  # (B, T, 8), under autocast in its type
        if self.how == "packed":
            packed, _ = self.layer(pack_sequence(list(steps), enforce_sorted=False))
            return self.head(torch.stack([part[-1] for part in unpack_sequence(packed)]))
        state = None
        if self.how == "state":
            state = steps.new_ones(2, len(clips), 4)
            state = (state, state) if isinstance(self.layer, nn.LSTM) else state
        return self.head(self.layer(steps, state)[0][:, -1])
