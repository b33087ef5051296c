"""Figures, tables and the HTML report, made from result files alone."""
