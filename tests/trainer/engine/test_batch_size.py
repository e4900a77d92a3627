"""`batch_size: auto` takes real steps and leaves no trace of them."""

import copy

import numpy as np
import pytest
import torch
from runs import SMALL, Hungry, Stopping, run_small

from trainer.config.load import load_settings
from trainer.devices.distributed import Group
from trainer.engine import batch_size
from trainer.engine.batch_size import choose_batch_size, largest_fitting, peak_bytes
from trainer.errors import SettingsError
from trainer.shards.shard_set import open_shards

CPU = torch.device("cpu")


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 15, 16, 100])
@pytest.mark.parametrize("most", [1, 3, 10, 64])
def test_the_largest_that_fits(limit, most):
    tried = []
    found = largest_fitting(lambda size: tried.append(size) or size <= limit, most)
    assert found == max(size for size in (1, 2, 4, 8, 16, 32, 64) if size <= min(limit, most))
    assert len(tried) == len(set(tried)) and max(tried) <= most


def test_not_even_one():
    with pytest.raises(SettingsError, match=r"not even one clip fits.*gradient_checkpointing"):
        largest_fitting(lambda size: False, 64)


def test_a_trial_runs_whole_steps_and_disturbs_nothing(shards_folder):
    shards = open_shards(shards_folder)
    settings = load_settings(None, (*SMALL, "ema=0.9", "accumulate=2"))
    model = Stopping(2)
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    taken = []
    for layer in (model.backbone.stem[0], model.head[1]):
        layer.register_forward_hook(lambda *_: taken.append(1))  # copied with the model
    numbers = shards.numbers("train")
    assert peak_bytes(settings, shards, numbers, model, CPU, 30) == 0  # more than there are clips
    assert len(taken) == 2 * 2 * batch_size.STEPS, "two layers, two parts, so many steps"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_trial_that_runs_out_of_memory(shards_folder):
    shards, settings = open_shards(shards_folder), load_settings(None, SMALL)
    model, numbers = Hungry(2, most=4), shards.numbers("train")

    def fits(size):
        return peak_bytes(settings, shards, numbers, model, CPU, size) < float("inf")

    assert largest_fitting(fits, 64) == 4


@pytest.mark.parametrize(
    ("num_clips", "pairs", "expected"),
    [(1000, "false", 16), (60, "false", 6), (5, "false", 1), (70, "true", 6), (5, "true", 2)],
)
def test_on_a_cpu_it_is_fixed_and_said(shards_folder, num_clips, pairs, expected):
    """With pairs it is even."""
    settings = load_settings(None, (*SMALL, "batch_size=auto", f"data.pairs={pairs}"))
    numbers = np.zeros(num_clips, np.int64)
    size, why = choose_batch_size(settings, open_shards(shards_folder), numbers, Hungry(2), Group(0, 1, CPU), 0)
    assert size == expected
    assert why.startswith(f"batch_size auto: {expected}, as on any CPU")


class Card:
    """Stands for a GPU in `torch.cuda`'s questions about memory: each clip of a step takes 1 GB of its 16."""

    def __init__(self, monkeypatch):
        for name, answer in (("mem_get_info", (15e9, 16e9)), ("memory_reserved", 1e9)):
            monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
        monkeypatch.setattr(batch_size, "peak_bytes", lambda *arguments: arguments[-1] * 1e9)


@pytest.mark.parametrize(("cache_gb", "expected"), [(0, 8), (5, 8), (6, 4), (10, 2)])
def test_what_the_cache_will_take_is_left_free(shards_folder, monkeypatch, cache_gb, expected):
    """85% of 16 GB, less the decoded clips that will stay on the device."""
    Card(monkeypatch)
    settings, numbers = load_settings(None, (*SMALL, "batch_size=auto")), np.zeros(1000, np.int64)
    group = Group(0, 1, torch.device("cuda", 0))
    shards = open_shards(shards_folder)
    size, why = choose_batch_size(settings, shards, numbers, Hungry(2), group, int(cache_gb * 1e9))
    assert size == expected
    assert f"{0.85 * 16 - cache_gb:.1f} GB of the GPU's memory allow" in why


def test_a_run_records_what_auto_came_to_and_goes_on_with_it(shards_folder, tmp_path, capfd):
    record = run_small(shards_folder, tmp_path / "run", "batch_size=auto", "epochs=1")
    assert record["settings"]["batch_size"] == 2  # of 20 clips, for ten steps an epoch
    assert "note: batch_size auto: 2" in capfd.readouterr().err
    more = run_small(shards_folder, tmp_path / "run", "batch_size=auto", "epochs=2", resume=True)
    assert (more["epochs_trained"], more["settings"]["batch_size"]) == (2, 2)
