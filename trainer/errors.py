"""What can stop a run, as one line that names the value and the remedy."""

from shardify.errors import FormatError, ShardifyError


class TrainerError(ShardifyError):
    """The run cannot go on."""


class SettingsError(TrainerError):
    """A setting is unknown, of the wrong type or out of range."""

    exit_code = 2


class Interrupted(TrainerError):
    """Stopped early on purpose (signal or max_hours); a checkpoint was written."""

    exit_code = 75


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory has run out: cuBLAS, cuDNN and a GPU that others have filled have no type of their own for it."""
    import torch

    names = ("ALLOC_FAILED", "CUDA error: out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(name in str(error) for name in names)


__all__ = ["FormatError", "Interrupted", "SettingsError", "TrainerError", "is_out_of_memory"]
