"""The figures of a run: functions from results to matplotlib Axes, which write no files."""

from .gradients import plot_gradient_variance
from .likelihood import (
    has_tails,
    plot_bound_curve,
    plot_classes,
    plot_ess,
    plot_log_likelihoods,
    plot_pareto_k,
    plot_typical_images,
    plot_worst_images,
)
from .likelihood_page import plot_likelihood
from .log_z import (
    plot_energies,
    plot_flow,
    plot_overlap,
    plot_repeats,
    plot_running,
    plot_schedule,
    plot_trajectory,
)
from .observables import OBSERVABLES, plot_observable
from .samples import mosaic, pair_mosaic
from .side_by_side import plot_side_by_side
from .states import plot_state_energies, plot_unit_means, tiles_of
from .training import plot_elbo, plot_kl, plot_runs

__all__ = [
    "OBSERVABLES",
    "has_tails",
    "mosaic",
    "pair_mosaic",
    "plot_bound_curve",
    "plot_classes",
    "plot_elbo",
    "plot_energies",
    "plot_ess",
    "plot_flow",
    "plot_gradient_variance",
    "plot_kl",
    "plot_likelihood",
    "plot_log_likelihoods",
    "plot_observable",
    "plot_overlap",
    "plot_pareto_k",
    "plot_repeats",
    "plot_running",
    "plot_runs",
    "plot_schedule",
    "plot_side_by_side",
    "plot_state_energies",
    "plot_trajectory",
    "plot_typical_images",
    "plot_unit_means",
    "plot_worst_images",
    "tiles_of",
]
