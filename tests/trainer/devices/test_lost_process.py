"""How a rank ends once another one is lost."""

import re

import pytest
from runs import CPU

from trainer.devices.distributed import Group


@pytest.mark.parametrize(
    "said", ["[gloo/transport/tcp/pair.cc:1] Timed out", "Application timeout caused pair closure"]
)
def test_once_another_rank_is_lost_nothing_is_exchanged(said):
    with pytest.raises(RuntimeError, match=f"^{re.escape(said)}$"), Group(0, 2, CPU).failing_together():
        raise RuntimeError(said)
