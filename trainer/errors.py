"""The errors that stop a run: each is one line that names the value and the remedy."""

from shardify.errors import FormatError, ShardifyError

GLOO = ("gloo/transport", "timeout caused pair closure")  # the second after the first has been timed out
STOPPED_AT_ONCE = "stopped by SIGTERM; --resume continues from the newest checkpoint, or begins"


class TrainerError(ShardifyError):
    """An error that stops a run."""


class SettingsError(TrainerError):
    """A setting is unknown, of the wrong type or out of range."""

    exit_code = 2


class Interrupted(TrainerError):
    """The run was stopped early on purpose (signal or max_hours); a checkpoint was written."""

    exit_code = 75


class GroupError(TrainerError):
    """The error of every process of a group where one of them cannot continue; each machine shows it once."""

    def __init__(self, line: str, exit_code: int) -> None:
        super().__init__(line)
        self.exit_code = exit_code


def is_lost_process(error: BaseException) -> bool:
    """Whether another process of the group has gone: gloo has no type of its own for it."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or any(words in str(error) for words in GLOO)


def first_sentence(error: BaseException) -> str:
    """The first sentence of an error, without the advice and the jokes that libraries add."""
    return (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0]


__all__ = [
    "STOPPED_AT_ONCE",
    "FormatError",
    "GroupError",
    "Interrupted",
    "SettingsError",
    "TrainerError",
    "first_sentence",
    "is_lost_process",
]
