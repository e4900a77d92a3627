"""Free memory, under the limits of control groups."""

import os
import platform

import pytest

from shardify.machine import free_memory_bytes, vector_units


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


def test_the_vector_units_by_which_sound_is_rounded(tmp_path):
    files = {
        "new": "processor : 0\nflags : fpu sse2 fma avx avx2 avx512f\n",
        "old": "flags\t\t: sse2 avx\n",
        "other": "",
    }
    write_files(tmp_path, files)
    found = [vector_units(tmp_path / name) for name in ("new", "old", "other", "missing")]
    assert found == [f"{platform.machine()}{units}" for units in (" avx avx2 fma", " avx", "", "")]
