"""What autocast would run in half precision and must not: gradients of recurrent layers that would become 0."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

from trainer.models import build_model
from trainer.settings import ModelSettings

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


@pytest.mark.parametrize("dtype", HALF)
def test_all_that_comes_after_the_backbone_is_in_float32(dtype):
    model, seen = resnet_lstm(), {}

    def note(part):
        def before(module, inputs):
            seen[part] = {torch.is_autocast_enabled("cpu"), inputs[0].dtype}

        def after(module, inputs, output):
            seen[part].add((output[0] if isinstance(output, tuple) else output).dtype)

        getattr(model, part).register_forward_pre_hook(before)
        getattr(model, part).register_forward_hook(after)

    for part in ("backbone", "lstm", "norm", "attention", "head"):
        note(part)
    with torch.autocast("cpu", dtype):
        logits = model(CLIPS)
        assert torch.is_autocast_enabled("cpu"), "as it was"
    assert seen.pop("backbone") == {True, torch.float32, dtype}
    assert set(seen) == {"lstm", "norm", "attention", "head"}
    assert all(types == {False, torch.float32} for types in seen.values()), seen
    assert logits.dtype == torch.float32


def gradient_of_features(device, dtype, loss_scale):
    """float32 (frames, features): what the part over time hands down to the backbone."""
    model = resnet_lstm().to(device)
    features = torch.randn(6, 64, generator=torch.Generator().manual_seed(2)).to(device).requires_grad_()
    model.backbone = Given(features)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        logits = model(CLIPS.to(device))
    (nn.functional.cross_entropy(logits.float(), torch.tensor([0, 1], device=device)) * loss_scale).backward()
    return features.grad


@pytest.mark.parametrize("dtype", HALF)
def test_the_gradients_of_a_small_loss_arrive(dtype):
    device = torch.device("cpu")
    expected = gradient_of_features(device, torch.float32, 1e-6)
    assert expected.abs().max() > 0
    assert torch.equal(gradient_of_features(device, dtype, 1e-6), expected)


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


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("how", ["plain", "state", "packed"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_of_custom_models(kind, how, dtype):
    torch.manual_seed(0)
    model = build_model(ModelSettings(name=f"{__name__}:Recurrent", options={"kind": kind, "how": how}), 2)
    plain = model(CLIPS)
    seen = []
    model.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].dtype))
    with torch.autocast("cpu", dtype):
        logits = model(CLIPS)
    assert seen == [torch.float32]
    assert logits.dtype == dtype, "around it, autocast is on"
    assert torch.allclose(logits.float(), plain, atol=0.02)


def test_a_copy_has_layers_of_its_own():
    model = build_model(ModelSettings(name=f"{__name__}:Recurrent"), 2)
    other = copy.deepcopy(model)
    other(CLIPS).sum().backward()
    assert model.layer.weight_ih_l0.grad is None and other.layer.weight_ih_l0.grad is not None
