"""Figures, tables and the HTML report, made from result files.

These names are the package's interface, imported on first use; all other names are private by convention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvae_core.lazy import lazy_names

__all__ = [
    "MachineRecord",
    "RunRecord",
    "plot_comparison",
    "plot_diagnostics",
    "plot_log_z",
    "plot_observables",
    "plot_samples",
    "plot_schedule",
    "plot_training",
    "render_machine_report",
    "render_report",
]

if TYPE_CHECKING:
    from .plots import (
        plot_comparison,
        plot_diagnostics,
        plot_log_z,
        plot_observables,
        plot_samples,
        plot_schedule,
        plot_training,
    )
    from .report.machine import render_machine_report
    from .report.render import render_report
    from .results.machine_record import MachineRecord
    from .results.run_directory import RunRecord
else:  # hidden from type checkers, which would then accept any name
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "MachineRecord": "results.machine_record:MachineRecord",
            "RunRecord": "results.run_directory:RunRecord",
            "plot_comparison": "plots:plot_comparison",
            "plot_diagnostics": "plots:plot_diagnostics",
            "plot_log_z": "plots:plot_log_z",
            "plot_observables": "plots:plot_observables",
            "plot_samples": "plots:plot_samples",
            "plot_schedule": "plots:plot_schedule",
            "plot_training": "plots:plot_training",
            "render_machine_report": "report.machine:render_machine_report",
            "render_report": "report.render:render_report",
        },
    )
