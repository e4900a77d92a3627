"""Where clips are kept, and that they come back as they were put."""

import os

import numpy as np
import pytest
import torch

from trainer import cache
from trainer.cache import ClipCache, choose_cache, explain_choice, free_memory_bytes

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


def test_free_memory_is_no_more_than_the_machine_has():
    assert 0 < free_memory_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def write_files(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


GIB = 1 << 30
MACHINE = {"proc/meminfo": f"MemTotal: {9 << 20} kB\nMemAvailable: {8 << 20} kB"}
VERSION_2 = {"proc/self/cgroup": "0::/jobs/one", "sys/fs/cgroup/jobs/memory.max": "max"}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 8 * GIB),
        (VERSION_2, 8 * GIB),
        (
            VERSION_2 | {
                "sys/fs/cgroup/jobs/one/memory.max": 4 * GIB, "sys/fs/cgroup/jobs/one/memory.current": 3 * GIB,
                "sys/fs/cgroup/jobs/one/memory.stat": f"inactive_file {GIB // 2}\nactive_file {GIB // 4}",
            },
            GIB + GIB // 2 + GIB // 4,
        ),
        (  # the limit is of a group above, as a service manager sets it
            VERSION_2 | {
                "sys/fs/cgroup/jobs/memory.max": 2 * GIB, "sys/fs/cgroup/jobs/memory.current": 2 * GIB + 4096,
                "sys/fs/cgroup/jobs/memory.stat": "anon 0",
            },
            0,
        ),
        (  # in a container of version 1 the group's own path does not exist
            {
                "proc/self/cgroup": "11:cpu,cpuacct:/docker/x\n4:memory:/docker/x",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": 4 * GIB,
                "sys/fs/cgroup/memory/memory.usage_in_bytes": 3 * GIB,
                "sys/fs/cgroup/memory/memory.stat": f"cache 5\ntotal_inactive_file {GIB}",
            },
            2 * GIB,
        ),
    ],
    ids=["no groups", "no limit", "own limit", "limit above, used up", "version 1"],
)  # fmt: skip
def test_free_memory_within_control_groups(tmp_path, files, free):
    assert free_memory_bytes(write_files(tmp_path, MACHINE | files)) == free


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
    assert not kept.is_full
    kept.put(np.arange(10), torch.zeros(10, 2, 3, dtype=torch.uint8))
    assert kept.is_full


def test_memory_that_two_caches_share():
    memory = torch.zeros(10 * 6 + 10, dtype=torch.uint8)
    one, other = (ClipCache(10, (2, 3), CPU, allot=lambda num_bytes: memory[:num_bytes]) for _ in range(2))
    clips = torch.arange(1, 13, dtype=torch.uint8).view(2, 2, 3)
    one.put(np.array([4, 9]), clips)
    assert np.flatnonzero(other.has(np.arange(10))).tolist() == [4, 9]
    assert torch.equal(other.take(np.array([4, 9])), clips)
