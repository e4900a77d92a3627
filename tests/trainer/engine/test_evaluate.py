"""The precision that an evaluation runs in."""

import pytest
import torch

from trainer.engine.evaluate import choose_dtype

CPU = torch.device("cpu")


def test_precision_on_a_cpu():
    assert choose_dtype("auto", CPU) == torch.float32
    assert choose_dtype("float16", CPU) == torch.float16


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((6, 0), "float16"), ((7, 5), "float16"), ((8, 0), "bfloat16"), ((8, 9), "bfloat16"), ((12, 0), "bfloat16")],
)
def test_precision_on_a_gpu(monkeypatch, capability, expected):
    """A T4, 7.5, takes bfloat16 but computes it slowly by other means."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    cuda = torch.device("cuda", 0)
    assert choose_dtype("auto", cuda) == getattr(torch, expected)
    assert choose_dtype("float32", cuda) == torch.float32
