"""What all plots share: their style, names as they can be drawn, the caption, the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from trainer.evaluation.plots.fonts import fonts_for

DPI = 140
STYLE = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.edgecolor": "#888888",
    "font.size": 9.5, "grid.color": "#e3e3e3", "legend.frameon": False, "lines.linewidth": 1.8,
    "xtick.color": "#444444", "ytick.color": "#444444",
    "text.parse_math": False,  # a $ in a class's name is a $
}  # fmt: skip
TRAIN, VALIDATION = "#7f8c99", "#c0392b"
BLACK, GREY = "#222222", "#888888"
PAIRED = matplotlib.colormaps["tab20"].colors
COLOURS = PAIRED[0::2] + PAIRED[1::2]  # of classes: ten that differ clearly (tab10), then paler versions of them
MANY = 12  # classes, from which on only their mean and those of the worst figures are drawn apart
WORST = 5
LONGEST_NAME = 30  # characters


@contextlib.contextmanager
def drawing(names: Sequence[str] = (), **style) -> Iterator[list[str]]:
    """matplotlib's settings for one picture; gives the classes' names as they can be drawn, in one line each."""
    families, missing = fonts_for(frozenset(filter(str.isprintable, "".join(names))))
    with matplotlib.rc_context(STYLE | {"font.family": families} | style):
        yield [_short("".join(_drawable(character, missing) for character in name)) for name in names]


def _drawable(character: str, missing: frozenset[str]) -> str:
    """The character, or its code where it is a control character or no font has it."""
    if character.isprintable() and character not in missing:
        return character
    return character.encode("unicode_escape").decode()


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 11]}…{name[-10:]}"


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches; pyplot would keep it, and choose a display."""
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path, caption: str = "") -> None:
    """Write the picture as PNG; caption: a line above it, what was evaluated."""
    figure.text(0.01, 1.0, caption, va="bottom", fontsize=9, color="#555555")  # outside, where nothing else is
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, bbox_inches="tight")  # never cuts a caption, a legend or a long name


def count_clips(axis, is_log: bool = False) -> None:
    """Whole numbers on the vertical axis, from 0, or on a logarithmic one from below 1."""
    if is_log:
        axis.set_yscale("log")
        axis.set_ylim(bottom=0.7)
        axis.yaxis.set_major_formatter("{x:,.0f}")
        axis.yaxis.set_minor_formatter("")
        return
    axis.yaxis.get_major_locator().set_params(integer=True, nbins=4)
    axis.set_ylim(0, max(1, axis.get_ylim()[1]))  # where there are none, too


def percent(share: float) -> str:
    """Whole per cent, in which what is not none does not look like none, nor what is not all like all."""
    if 0 < share < 0.01:
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{share:.0%}"
