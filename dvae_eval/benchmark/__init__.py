"""Estimators of log Z, anybody's, on the test machines: how wrong they are, and whether they know it."""
