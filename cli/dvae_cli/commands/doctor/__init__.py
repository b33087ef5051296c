"""dvae-eval doctor: check the installation."""
