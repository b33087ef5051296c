"""The figures of a run, each a function from results to matplotlib Axes; nothing here writes a file."""

from .gradients import plot_gradient_scaling, plot_gradient_variance
from .likelihood import (
    plot_bound_curve,
    plot_classes,
    plot_ess,
    plot_likelihood,
    plot_log_likelihoods,
    plot_pareto_k,
    plot_typical_images,
    plot_worst_images,
)
from .log_z import plot_ladder, plot_repeats, plot_running
from .mosaics import mosaic, pair_mosaic, plot_reconstructions, plot_samples
from .training import plot_elbo, plot_kl

__all__ = [
    "mosaic",
    "pair_mosaic",
    "plot_bound_curve",
    "plot_classes",
    "plot_elbo",
    "plot_ess",
    "plot_gradient_scaling",
    "plot_gradient_variance",
    "plot_kl",
    "plot_ladder",
    "plot_likelihood",
    "plot_log_likelihoods",
    "plot_pareto_k",
    "plot_reconstructions",
    "plot_repeats",
    "plot_running",
    "plot_samples",
    "plot_typical_images",
    "plot_worst_images",
]
