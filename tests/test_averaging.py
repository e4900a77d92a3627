"""The moving average of weights and statistics, beside torch's own."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainer.averaging import MovingAverage


def test_as_torchs_own_with_its_buffers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ours = MovingAverage(model, 0.8)
    reference = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8), use_buffers=True)
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
