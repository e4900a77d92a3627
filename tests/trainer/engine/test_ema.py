"""The moving average of weights and statistics, beside torch's own."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainer.engine.ema import MovingAverage


def test_as_torchs_own_with_its_buffers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ours = MovingAverage(model, 0.15)  # from the first step on: 2 / 11 is more
    reference = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.15), use_buffers=True)
    reference.update_parameters(model)  # its first one copies
    for _ in range(3):
        model(torch.rand(5, 3))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.update()
        reference.update_parameters(model)
    expected = reference.module.state_dict()
    for name, value in ours.module.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value, expected[name]) and not torch.allclose(value, model.state_dict()[name])
    assert ours.module[1].num_batches_tracked == 3


def test_it_does_not_learn_by_itself():
    model = nn.LSTM(3, 4)
    average = MovingAverage(model, 0.5)
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_it_began_with_is_soon_forgotten():
    model = nn.Linear(1, 1)
    nn.init.zeros_(model.weight)
    average = MovingAverage(model, 0.999)
    nn.init.ones_(model.weight)
    values = []
    for _ in range(20):
        average.update()
        values.append(average.module.weight.item())
    assert values[0] == pytest.approx(1 - 2 / 11) and values[-1] > 0.999  # at 0.999 throughout: 0.02


def test_it_goes_on_where_it_was():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    whole = MovingAverage(model, 0.999)
    parts = MovingAverage(model, 0.999)
    for step in range(6):
        nn.init.normal_(model.weight)
        whole.update()
        parts.update()
        if step == 3:
            state = parts.state_dict()
            parts = MovingAverage(model, 0.999)
            parts.load_state_dict(state)
    assert torch.equal(whole.module.weight, parts.module.weight)
