"""Samples of a model's prior, and the pictures that it makes of them."""
