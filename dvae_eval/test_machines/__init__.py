"""Boltzmann machines of many shapes whose log Z is known by a way of their own."""
