"""dvae-eval sweep: train and measure a grid of settings and seeds."""
