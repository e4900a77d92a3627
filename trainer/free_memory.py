"""How much memory is free for this process, whoever limits it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# control groups, version 2 and 1: limit, use, and the file pages in it, which the kernel gives back when asked
GROUP_FILES = (
    ("memory.max", "memory.current", ("inactive_file", "active_file")),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
)


def free_memory_bytes(root: Path = Path("/")) -> int:
    """What this process may still use: the machine's free memory, or what its control groups leave of it."""
    lines = (root / "proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    return max(0, min([free, *_groups_free_bytes(root)]))


def _groups_free_bytes(root: Path) -> Iterator[int]:
    """Of every control group that this process is in and that has a limit."""
    for folder in _group_folders(root):
        for limit_name, used_name, file_pages in GROUP_FILES:
            try:
                limit, used = (int((folder / name).read_text()) for name in (limit_name, used_name))
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):  # no such file, or "max": no limit
                continue
            yield limit - used + sum(int(stat.get(name, 0)) for name in file_pages)


def _group_folders(root: Path) -> Iterator[Path]:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers in ("", "memory"):
            base = root / "sys/fs/cgroup" / controllers
            folder = base / path.lstrip("/")  # in a container that folder may not exist, but `base` is its own
            yield from (group for group in (folder, *folder.parents) if group.is_relative_to(base))
