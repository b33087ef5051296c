"""Sampling between a reference distribution and a machine: paths, schedules, replicas, tempering, annealing."""
