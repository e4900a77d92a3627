"""Layers between features and logits, each against what it is defined as."""

import pytest
import torch
from torch.nn import functional

from trainer.models.layers import AttentionPool, CosineClassifier, TemporalTransformer, sinusoidal_positions

FEATURES = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))


def test_the_transformer_knows_the_order_and_takes_any_number_of_frames():
    torch.manual_seed(0)
    layer = TemporalTransformer(8, 12, 2, 3, 0.0).eval()
    shuffled = FEATURES[:, [4, 1, 2, 3, 0]]
    assert layer(FEATURES).shape == (2, 5, 12)
    assert not torch.allclose(layer(FEATURES).mean(1), layer(shuffled).mean(1), atol=1e-4)
    assert torch.allclose(layer(FEATURES[:1]), layer(FEATURES)[:1], atol=1e-5), "clips do not see each other"
    assert layer(FEATURES[:, :1]).shape == (2, 1, 12)


def test_positions_are_sines_and_cosines_of_falling_frequencies():
    """Vaswani et al., section 3.5: position / 10000^(2i / C)."""
    got = sinusoidal_positions(torch.zeros(1, 3, 4))
    angles = torch.tensor([[step, step / 100] for step in range(3)])
    assert torch.allclose(got, torch.cat((angles.sin(), angles.cos()), dim=1))


def test_attention_pooling_is_a_weighted_mean():
    torch.manual_seed(0)
    pool = AttentionPool(8)
    weights = torch.stack([pool.weigh(frame) for frame in FEATURES.unbind(1)], dim=1).softmax(1)
    assert torch.allclose(pool(FEATURES), (weights * FEATURES).sum(1), atol=1e-6)
    assert torch.allclose(pool(FEATURES[:, [4, 1, 2, 3, 0]]), pool(FEATURES), atol=1e-6)
    assert not torch.allclose(pool(FEATURES), FEATURES.mean(1), atol=1e-3)


def test_cosine_logits_know_directions_alone():
    torch.manual_seed(0)
    head, features = CosineClassifier(8, 3), FEATURES[:, 0]
    cosines = functional.cosine_similarity(features[:, None], head.weight[None], dim=2)
    assert torch.allclose(head(features), 10 * cosines, atol=1e-5)
    assert torch.allclose(head(7 * features), head(features), atol=1e-5)
    head(features).sum().backward()
    assert head.scale.grad.item() == pytest.approx(cosines.sum().item(), abs=1e-5)
