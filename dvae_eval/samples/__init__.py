"""Samples of a model's prior, and the pictures made from them."""
