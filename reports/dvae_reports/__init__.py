"""Figures, tables and the HTML report, made from result files alone."""

from .report.render import render_report
from .results.run_directory import RunRecord

__all__ = ["RunRecord", "render_report"]
