"""Estimators of the bound's gradient, and their bias and variance."""
