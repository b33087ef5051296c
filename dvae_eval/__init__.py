"""Estimators: log Z, importance-weighted log-likelihoods and their diagnostics."""
