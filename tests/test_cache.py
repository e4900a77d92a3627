"""Where clips are kept, and that they come back as they were put."""

import numpy as np
import pytest
import torch

from trainer import cache
from trainer.cache import ClipCache, choose_cache, free_memory_bytes

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("setting", "share_of_free", "chosen"),
    [("none", 0, "none"), ("ram", 9, "ram"), ("device", 0, "ram"), ("auto", 0.4, "ram"), ("auto", 0.6, "none")],
)
def test_the_choice_on_a_cpu(setting, share_of_free, chosen, monkeypatch):
    monkeypatch.setattr(cache, "free_memory_bytes", lambda: 10**9)
    assert choose_cache(setting, int(share_of_free * 10**9), CPU) == chosen
    if setting == "auto":
        assert choose_cache(setting, int(share_of_free * 10**9), CPU, world=2) == "none"


def test_free_memory_is_no_more_than_the_machine_has():
    import os

    assert 0 < free_memory_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_clips_come_back():
    clips = torch.arange(4 * 6, dtype=torch.uint8).view(4, 2, 3)
    kept = ClipCache(10, (2, 3), CPU)
    places = np.array([7, 2, 9, 0])
    assert not kept.has(places).any()
    kept.put(places, clips)
    assert kept.has(places).all()
    assert kept.has(np.array([7, 1])).tolist() == [True, False]
    assert torch.equal(kept.take(np.array([9, 7])), clips[[2, 0]])
    out = torch.empty(2, 3, dtype=torch.uint8)
    kept.copy(0, out)
    assert torch.equal(out, clips[3])
    assert (kept.hits, kept.misses) == (5, 5)
