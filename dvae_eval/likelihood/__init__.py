"""Importance-weighted log-likelihoods per image, with errors and verdicts."""
