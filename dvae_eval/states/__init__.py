"""Samples of a Boltzmann machine, with a verdict: exact where that is feasible, else from a tempered run."""
