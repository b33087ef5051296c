"""Comparison of samples made elsewhere with a Boltzmann machine, from `compare_samples` down."""
