"""Observables of Boltzmann machines along inverse temperature, from `estimate_observables` down."""
