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


__all__ = ["FormatError", "Interrupted", "SettingsError", "TrainerError"]
