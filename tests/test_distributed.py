"""This process alone, and which devices it may use."""

import numpy as np
import pytest
import torch

from trainer.distributed import Group, join_group, leave_group, num_devices
from trainer.errors import SettingsError


def test_alone(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    group = join_group(use_gpu=False)
    assert group == Group(0, 1, torch.device("cpu"))
    assert group.is_main
    assert not Group(1, 2, torch.device("cpu")).is_main
    assert (group.any(True), group.any(False)) == (True, False)
    values = np.arange(6).reshape(3, 2)
    assert group.gather(values) is values
    leave_group(group)


def test_devices():
    count = torch.cuda.device_count()
    assert (num_devices("auto"), num_devices("cpu")) == (count, 0)
    for wrong in ("gpu", "0", "-1", "1.5", "", str(count + 1)):
        with pytest.raises(SettingsError, match=f"--devices is {wrong}"):
            num_devices(wrong)
