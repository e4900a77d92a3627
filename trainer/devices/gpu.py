"""Facts about a GPU: whether the installed torch supports it, its memory, its name in reports."""

from __future__ import annotations

import platform

import torch
import torchvision

from shardify.machine import is_supported
from trainer.errors import SettingsError


def check_gpu(device: torch.device) -> None:
    """Raises SettingsError where the GPU is too old for the installed torch."""
    if device.type != "cuda":
        return
    capability, built_for = torch.cuda.get_device_capability(device), torch.cuda.get_arch_list()
    if not is_supported(capability, built_for):
        raise SettingsError(
            f"{torch.cuda.get_device_name(device)} has compute capability {capability[0]}.{capability[1]}, but torch "
            f"{torch.__version__} is built for {', '.join(built_for)}; install a torch that still has it (see "
            f"pytorch.org/get-started/previous-versions), or pass --devices cpu"
        )


def gpu_memory(device: torch.device) -> dict[str, float]:
    """The most memory that training has taken on this process' GPU, GB and as a share of what it has; {} on a CPU."""
    if device.type != "cuda":
        return {}
    peak = torch.cuda.max_memory_allocated(device)
    total = torch.cuda.get_device_properties(device).total_memory
    return {"gpu_memory_gb": peak / 1e9, "gpu_memory_share": peak / total}


def gpu_use(device: torch.device) -> tuple[float | None, str]:
    """The share of the last moments in which the GPU was busy; None where it cannot be read, and the reason."""
    if device.type != "cuda":
        return None, "there is no GPU"
    try:
        return torch.cuda.utilization(device) / 100, ""
    except ModuleNotFoundError:
        return None, "pip install nvidia-ml-py, with which torch reads it"
    except Exception as error:  # some drivers, and parts of a GPU, do not say
        return None, " ".join(str(error).split()) or type(error).__name__


def environment(device: torch.device, dtype: torch.dtype, world: int) -> dict:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {
        "device": name if world == 1 else f"{world} × {name}",
        "precision": str(dtype).removeprefix("torch."),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
