"""The commands of dvae-eval, one a module."""
