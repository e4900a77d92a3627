"""Facts about this machine and what it leaves to this process: cores, memory, GPUs, whether it is Kaggle's."""

import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

# control groups, version 2 and 1: limit, use, and the file pages in it, which the kernel gives back when asked
GROUP_FILES = (
    ("memory.max", "memory.current", ("inactive_file", "active_file")),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def cpu_share(cgroup: Path) -> float | None:
    """The control group's quota in cores (version 2, else 1), None where it has none."""
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def vector_units(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's kind, and which of its vector units decide how libav rounds floats: `x86_64 avx avx2 fma`."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return " ".join([platform.machine(), *(name for name in ("avx", "avx2", "fma") if name in flags)])


def on_kaggle() -> bool:
    """Notebooks and scripts there have this variable; kagglehub asks for the same."""
    return bool(os.environ.get("KAGGLE_KERNEL_RUN_TYPE"))


def is_supported(capability: tuple[int, int], built_for: list[str]) -> bool:
    """Whether code for one of `sm_75`, `compute_90` … runs on a GPU of this compute capability.

    Machine code (sm) runs on later minor versions of its major version, portable code (compute) on all later ones.
    Other names, such as AMD's, are not judged.
    """
    found = [re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]*", name) for name in built_for]
    if not all(found):
        return True
    for match in found:
        major, minor = int(match[2]), int(match[3])
        if (major, minor) <= capability and (match[1] == "compute" or major == capability[0]):
            return True
    return not built_for


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory has run out: cuBLAS, cuDNN and a GPU that others have filled have no type of their own for it."""
    torch = sys.modules.get("torch")
    names = ("ALLOC_FAILED", "CUDA error: out of memory")
    is_torchs = torch is not None and isinstance(error, torch.OutOfMemoryError)
    return is_torchs or any(name in str(error) for name in names)
