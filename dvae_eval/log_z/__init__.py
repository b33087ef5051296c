"""Estimates of log Z with their errors and verdicts."""
