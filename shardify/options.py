"""Types of options that the commands of both packages take."""

from __future__ import annotations

import math

import click


class FiniteRange(click.FloatRange):
    """A range of numbers, in which inf and nan never are."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number
