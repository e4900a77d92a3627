"""What autocast would run in half precision and must not: gradients of recurrent layers that would become 0."""

import copy

import pytest
import torch
from recurrent import CLIPS, HALF, gradient_of_features, resnet_lstm
from torch import nn

from trainer.config.settings import ModelSettings
from trainer.models.build import build_model
from trainer.models.precision import keep_recurrent_layers_in_float32


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


@pytest.mark.parametrize("dtype", HALF)
def test_the_gradients_of_a_small_loss_arrive(dtype):
    device = torch.device("cpu")
    expected = gradient_of_features(device, torch.float32, 1e-6)
    assert expected.abs().max() > 0
    assert torch.equal(gradient_of_features(device, dtype, 1e-6), expected)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("how", ["plain", "state", "packed"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_of_custom_models(kind, how, dtype):
    torch.manual_seed(0)
    model = build_model(ModelSettings(name="recurrent:Recurrent", options={"kind": kind, "how": how}), 2)
    plain = model(CLIPS)
    seen = []
    model.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].dtype))
    with torch.autocast("cpu", dtype):
        logits = model(CLIPS)
    assert seen == [torch.float32]
    assert logits.dtype == dtype, "around it, autocast is on"
    assert torch.allclose(logits.float(), plain, atol=0.02)


def test_a_copy_has_layers_of_its_own():
    model = build_model(ModelSettings(name="recurrent:Recurrent"), 2)
    other = copy.deepcopy(model)
    other(CLIPS).sum().backward()
    assert model.layer.weight_ih_l0.grad is None and other.layer.weight_ih_l0.grad is not None


class Scaled(nn.LSTM):
    """Has a forward pass of its own signature, with what is no float among its arguments."""

    def forward(self, scale, steps, *, lengths, first=None):
        assert (lengths.dtype, scale) == (torch.int64, 2)
        return super().forward(steps * scale, first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recurrent_layers_are_called_by_any_signature(dtype):
    layers = nn.ModuleDict({"gru": nn.GRU(8, 4), "scaled": Scaled(8, 4)})
    keep_recurrent_layers_in_float32(layers)
    steps, state = torch.rand(5, 2, 8, dtype=dtype), torch.zeros(1, 2, 4, dtype=dtype)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        outputs = [
            layers["gru"](input=steps)[0],
            layers["gru"](steps, hx=state)[0],
            layers["scaled"](2, steps, lengths=torch.tensor([5, 5]))[0],
            layers["scaled"](2, steps=steps, lengths=torch.tensor([5, 5]), first=[state, state])[0],
        ]
    assert [output.dtype for output in outputs] == [torch.float32] * 4
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[2], outputs[3])
