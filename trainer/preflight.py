"""Whether the installed torch can use this GPU, before a kernel fails without saying why."""

from __future__ import annotations

import re

import torch

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
