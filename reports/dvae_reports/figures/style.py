"""The style of all figures: colours, sizes and axes.

The colours are distinguishable in grey and for colour-blind readers, and no line is identified by its colour
alone.  Each has a name, so that a page can replace it in a dark theme (see `dvae_reports.report.svg`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from dvae_core.errors import ResultError
from dvae_core.text import count
from dvae_core.types import Float

P = ParamSpec("P")
T = TypeVar("T")

PALETTE = {
    "ink": "#1d2329",
    "muted": "#59636e",
    "faint": "#d5dbe1",
    # Almost white, so that replacing it changes nothing else.
    "paper": "#fffffe",
    "blue": "#1f5fa8",
    "orange": "#d9730d",
    "green": "#2a9d78",
    "violet": "#8a4f9e",
    "wash": "#b9cee8",
}

# Marker and colour of the first, second, ... line; the markers distinguish them without colour.
MARKERS = (("o", "blue"), ("s", "orange"), ("^", "green"), ("D", "violet"), ("v", "muted"), ("P", "ink"))

# About the width of a paper's column, so that labels are readable there and on a phone.
SIZE = (3.8, 2.5)

# Untyped keys: matplotlib's literal types change between versions.
STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "text.color": PALETTE["ink"],
    "axes.labelcolor": PALETTE["ink"],
    "axes.edgecolor": PALETTE["muted"],
    "axes.linewidth": 0.7,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": PALETTE["faint"],
    "grid.linewidth": 0.6,
    "figure.facecolor": "none",
    "xtick.color": PALETTE["muted"],
    "ytick.color": PALETTE["muted"],
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 1.9,
    "legend.handletextpad": 0.5,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}


def styled(plot: Callable[P, T]) -> Callable[P, T]:
    """Return `plot` wrapped to draw in this project's style."""

    @wraps(plot)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        with mpl.rc_context(STYLE):
            return plot(*args, **kwargs)

    return wrapper


def axes(ax: Axes | None) -> Axes:
    """Return `ax`, or the axes of a new figure if it is None."""
    if ax is not None:
        return ax
    return Figure(figsize=SIZE, layout="constrained").subplots()


def column(table: Mapping[str, Any], name: str) -> Float:
    """Return the array `name` of a result, with nan for null.

    Raises
    ------
    ResultError
        If it is missing or not a list of numbers.
    """
    try:
        return np.asarray(table[name], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise ResultError(f"the result has no usable {name!r} ({error}); make the result again") from error


def finite(values: Sequence[float | None] | Float) -> Float:
    """Return the finite numbers of a result; its file has null for the others."""
    array = np.array(values, dtype=np.float64)
    return array[np.isfinite(array)]


def histogram(ax: Axes, values: Float, bins: Any) -> float:
    """Draw a histogram with whole numbers on its axis, and return its highest count."""
    counts, *_ = ax.hist(values, bins=bins, color=PALETTE["wash"], edgecolor=PALETTE["paper"], linewidth=0.8)
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    return float(np.max(counts))


def legend_above(ax: Axes, columns: int) -> None:
    """Put the legend above the axes, where it covers nothing."""
    ax.legend(ncols=columns, loc="lower left", bbox_to_anchor=(0.0, 1.0), columnspacing=1.2, borderaxespad=0.2)


def count_axis(axis: Axis) -> None:
    """Label `axis` with distinct whole numbers in groups of three digits, without exponents."""
    if isinstance(locator := axis.get_major_locator(), MaxNLocator):
        locator.set_params(integer=True)
    axis.set_major_formatter(FuncFormatter(lambda value, _: count(round(value)) if value >= 0 else ""))
    axis.set_minor_formatter(NullFormatter())
