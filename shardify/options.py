"""Types of options that the commands of both packages take."""

from __future__ import annotations

import math
from pathlib import Path

import click

from shardify.errors import UsageError
from shardify.storage.address import REMOTE


class FiniteRange(click.FloatRange):
    """A range of numbers, in which inf and nan never are."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


class LocalPath(click.Path):
    """A path of this machine: an address in object storage is refused in one line."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if REMOTE.fullmatch(str(value)):
            error = click.ClickException(
                f"{value}: lies in object storage, where {param.get_error_hint(ctx)} of this command cannot; use a "
                f"path of this machine (docs/storage.md says which take addresses)"
            )
            error.exit_code = UsageError.exit_code
            raise error
        return super().convert(value, param, ctx)
