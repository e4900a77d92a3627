"""The choice of clips from a split."""

import numpy as np

from trainer.shards.splits import choose_evenly


def test_clips_are_chosen_evenly():
    assert choose_evenly(np.arange(10), 3).tolist() == [0, 3, 6]
    assert choose_evenly(np.arange(2), 3).tolist() == [0, 1] and len(choose_evenly(np.arange(0), 3)) == 0
