"""Which GPUs the installed torch can use."""

import pytest
import torch

from shardify.machine import is_supported
from trainer.devices.gpu import gpu_use

PIP = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]


@pytest.mark.parametrize(
    ("capability", "built_for", "supported"),
    [
        ((7, 5), PIP, True),  # T4
        ((8, 9), PIP, True),  # L4: by the code of an earlier minor version
        ((9, 0), PIP, True),
        ((6, 0), PIP, False),  # P100
        ((3, 7), PIP, False),  # K80
        ((7, 0), PIP, False),  # V100: older than the oldest of its major version
        ((12, 1), ["sm_90a", "compute_90"], True),  # portable code
        ((8, 0), ["sm_90a", "compute_90"], False),
        ((9, 0), ["gfx90a", "gfx942"], True),  # AMD's are not judged
        ((9, 0), [], True),
        ((9, 0), ["sm_80"], False),
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80", "compute_80"], True),
        ((9, 0), ["sm_90a"], True),
        ((7, 5), ["compute_80"], False),
    ],
)
def test_support(capability, built_for, supported):
    assert is_supported(capability, built_for) is supported


@pytest.mark.parametrize(
    ("error", "reason"), [(None, ""), (ModuleNotFoundError(), "pip install nvidia-ml-py"), (ValueError("a\nb"), "a b")]
)
def test_how_busy_a_gpu_is(monkeypatch, error, reason):
    def utilization(device):
        if error:
            raise error
        return 40

    monkeypatch.setattr(torch.cuda, "utilization", utilization)
    use, why = gpu_use(torch.device("cuda", 0))
    assert use == (None if error else 0.4) and why.startswith(reason)
    assert gpu_use(torch.device("cpu"))[0] is None
