"""Importance-weighted log-likelihoods, image by image, with their errors and verdicts."""
