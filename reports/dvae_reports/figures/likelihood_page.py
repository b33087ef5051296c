"""A log-likelihood on one page: diagnostics, the worst images and typical ones."""

from __future__ import annotations

from matplotlib.figure import Figure, SubFigure

from dvae_eval.likelihood.images import LikelihoodImages
from dvae_eval.results import LikelihoodResult

from .diagnostics import panels_of
from .likelihood import plot_typical_images, plot_worst_images
from .style import PALETTE, styled


@styled
def plot_likelihood(result: LikelihoodResult, images: LikelihoodImages) -> Figure:
    """Draw the diagnostics of a log-likelihood and pictures of images with their reconstructions on one page."""
    figure = Figure(figsize=(10.4, 12.4), dpi=150, layout="constrained")
    rows = figure.add_gridspec(3, 1, height_ratios=(5.2, 3.3, 3.9))
    plots, worst, typical = (figure.add_subfigure(rows[i]) for i in range(3))
    grid, panels = plots.subplots(2, 3).ravel(), panels_of(result)
    for panel, ax in zip(panels, grid, strict=False):
        panel.plot(result, ax=ax)
    for ax in grid[len(panels) :]:
        ax.remove()
    _titled(worst, "The images with the lowest log p(x) (nats), each above its mean reconstruction")
    plot_worst_images(images, ax=worst.subplots())
    _titled(typical, "Images by increasing log p(x), each above one reconstruction and the mean of many")
    plot_typical_images(images, ax=typical.subplots())
    return figure


def _titled(part: SubFigure, title: str) -> None:
    part.suptitle(title, fontsize=9, color=PALETTE["ink"])
