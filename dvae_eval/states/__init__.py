"""Samples of a Boltzmann machine, with a verdict: exact ones where they can be had, else from a tempered run."""
