"""Figures, tables and the HTML report, made from result files alone.

These names are the package's interface, imported when they are first used; all else is private by convention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvae_core.lazy import lazy_names

__all__ = ["RunRecord", "render_report"]

if TYPE_CHECKING:
    from .report.render import render_report
    from .results.run_directory import RunRecord
else:  # hidden from type checkers, to which any name would then be one
    __getattr__, __dir__ = lazy_names(
        __name__,
        {"RunRecord": "results.run_directory:RunRecord", "render_report": "report.render:render_report"},
    )
