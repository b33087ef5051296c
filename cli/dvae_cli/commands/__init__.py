"""The commands of dvae-eval, one per module."""
