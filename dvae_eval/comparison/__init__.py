"""Samples that others made, against a machine, from `compare_samples` down."""
