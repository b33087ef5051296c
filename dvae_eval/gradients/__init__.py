"""Estimators of the gradient of the bound, and their bias and variance."""
