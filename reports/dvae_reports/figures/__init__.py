"""The figures of a run, each a function from results to matplotlib Axes; nothing here writes a file."""

from .gradients import plot_gradient_scaling, plot_gradient_variance
from .likelihood import plot_bound_curve, plot_ess, plot_log_likelihoods
from .log_z import plot_ladder, plot_repeats, plot_running
from .mosaics import mosaic, pair_mosaic, plot_reconstructions, plot_samples
from .side_by_side import plot_side_by_side
from .training import plot_elbo, plot_kl, plot_runs

__all__ = [
    "mosaic",
    "pair_mosaic",
    "plot_bound_curve",
    "plot_elbo",
    "plot_ess",
    "plot_gradient_scaling",
    "plot_gradient_variance",
    "plot_kl",
    "plot_ladder",
    "plot_log_likelihoods",
    "plot_reconstructions",
    "plot_repeats",
    "plot_running",
    "plot_runs",
    "plot_samples",
    "plot_side_by_side",
]
