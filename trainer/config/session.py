"""Kaggle's notebook sessions: how they are recognised, where they can write, and when they end."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

from shardify.machine import on_kaggle
from trainer.config.settings import Settings
from trainer.errors import SettingsError

WORKING = Path("/kaggle/working")  # kept as the notebook's output
SESSION_HOURS = 12.0  # Kaggle ends a session then, whatever runs in it
MARGIN_HOURS = 0.5  # for the last evaluation, the checkpoint, and the notebook's remaining cells


def runs_folder() -> Path:
    """runs/ here, or in Kaggle's working folder where this one is a read-only data set. Raises SettingsError."""
    folders = [Path(), WORKING] if on_kaggle() else [Path()]
    for folder in folders:
        if os.access(folder, os.W_OK):
            return folder / "runs"
    raise SettingsError(f"{Path.cwd()} cannot be written to; pass another folder with --out")


def with_session_limit(settings: Settings) -> Settings:
    """The settings with max_hours from what is left of a Kaggle session, where the user has set none."""
    if settings.max_hours is not None or not on_kaggle():
        return settings
    left = max(SESSION_HOURS - MARGIN_HOURS - _session_age_hours(), 0.1)
    return dataclasses.replace(settings, max_hours=round(left, 2))


def _session_age_hours() -> float:
    """The age of this container, hours; 0 where it cannot be found out."""
    try:
        ticks = int(Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19])  # proc(5): starttime
    except (OSError, ValueError, IndexError):
        return 0.0
    age = (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")) / 3600
    return age if 0 <= age < SESSION_HOURS else 0.0
