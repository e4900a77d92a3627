"""Where clips are kept, and that they come back as they were put."""

import os
import threading

import numpy as np
import pytest
import torch

from shardify.format.members.array import Array
from shardify.format.members.frames import Frames
from trainer.data import cache
from trainer.data.cache import ClipCache, choose_cache, explain_choice, make_caches, private_memory

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("setting", "share_of_free", "chosen"),
    [("none", 0, "none"), ("ram", 9, "ram"), ("device", 0, "ram"), ("auto", 0.4, "ram"), ("auto", 0.6, "none")],
)
def test_the_choice_on_a_cpu(setting, share_of_free, chosen, monkeypatch):
    monkeypatch.setattr(cache, "free_memory_bytes", lambda: 10**9)
    assert choose_cache(setting, int(share_of_free * 10**9), CPU) == chosen


def test_auto_says_what_it_has_chosen_and_from_what(monkeypatch):
    monkeypatch.setattr(cache, "free_memory_bytes", lambda: 10**10)
    assert explain_choice("ram", 2 * 10**9, CPU) == (
        "cache: auto chose ram; the decoded clips take 2.0 GB, 10.0 GB of memory are free"
    )


MEMBERS = {  # of 5 and 12 bytes: the second one's memory must begin where its dtype may
    "a": Array(name="a", sides=(5,), type="uint8"),
    "b": Array(name="b", sides=(2, 3), type="float16"),
}


def clips_of(first, last):
    numbers = torch.arange(first, last)
    return {
        "a": numbers[:, None].repeat(1, 5).to(torch.uint8),
        "b": numbers[:, None, None].repeat(1, 2, 3).to(torch.float16) / 2,
    }


def same(found, expected):
    assert list(found) == list(expected)
    return all(torch.equal(found[name], expected[name]) for name in expected)


def test_clips_come_back():
    clips = clips_of(1, 5)
    kept = ClipCache(10, MEMBERS, CPU)
    places = np.array([7, 2, 9, 0])
    assert not kept.has(places).any()
    kept.put(places, clips)
    assert kept.has(places).all()
    assert kept.has(np.array([7, 1])).tolist() == [True, False]
    assert same(kept.take(np.array([9, 7])), {name: values[[2, 0]] for name, values in clips.items()})
    out = {name: torch.empty_like(values[0]) for name, values in clips.items()}
    kept.copy(0, out)
    assert same(out, {name: values[3] for name, values in clips.items()})
    assert not kept.is_full
    kept.put(np.arange(10), clips_of(0, 10))
    assert kept.is_full


def test_memory_that_two_caches_share():
    memory = torch.zeros(11 * (5 + 12) + 11 + 16, dtype=torch.uint8)
    one, other = (ClipCache(11, MEMBERS, CPU, allot=lambda num_bytes: memory[:num_bytes]) for _ in range(2))
    one.put(np.array([4, 9]), clips_of(4, 6))
    assert np.flatnonzero(other.has(np.arange(10))).tolist() == [4, 9]
    assert same(other.take(np.array([4, 9])), clips_of(4, 6))


def test_beside_a_gpu_memory_keeps_payloads_as_they_are_decoded():
    """A sheet of six cells for five frames, which the GPU cuts."""
    members = {"frames": Frames(codec="jpeg", frames=5, size=16, cell=16)}
    chosen, on_device, on_host = make_caches("ram", 3, members, torch.device("cuda"), private_memory)
    assert (chosen, on_device) == ("ram", None)
    assert on_host.take(np.array([0]))["frames"].shape == (1, 32, 48, 3)


@pytest.fixture
def two_threads_of_torch():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_copying_starts_no_threads_of_torch(two_threads_of_torch):
    """Each decoder thread would get a pool of torch's own, whose threads spin for the decoders' cores."""
    clips = {"a": torch.zeros(2, 1 << 20, dtype=torch.uint8)}
    kept, counts = ClipCache(4, {"a": Array(name="a", sides=(1 << 20,), type="uint8")}, CPU), []

    def decode():
        counts.append(len(os.listdir("/proc/self/task")))
        kept.put(np.array([1, 3]), clips)
        kept.copy(3, {"a": clips["a"][0]})
        kept.take(np.array([1, 3]))
        counts.append(len(os.listdir("/proc/self/task")))

    decoder = threading.Thread(target=decode)
    decoder.start()
    decoder.join()
    assert counts[0] == counts[1]
