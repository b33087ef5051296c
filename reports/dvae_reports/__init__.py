"""Figures, tables and the HTML report, made from result files alone."""

from .render import render_report
from .run_directory import RunRecord

__all__ = ["RunRecord", "render_report"]
