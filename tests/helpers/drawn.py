"""The axes of a plot, for tests of what it shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def drawn(plot: Callable, *arguments, caption: str = "") -> list[Axes]:
    """The axes of what `plot` would write, laid out; the last argument of a plot is its path."""
    figures = []

    def keep(figure: Figure, path: Path, **_: object) -> None:
        figure.draw_without_rendering()
        figures.append(figure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", keep)
        plot(*arguments, Path("unused") / "plot.png", **({"caption": caption} if caption else {}))
    (figure,) = figures
    return figure.axes


def texts(artists) -> list[str]:
    return [artist.get_text() for artist in artists]


def legend(axis: Axes) -> list[str]:
    return texts(axis.get_legend().get_texts())
