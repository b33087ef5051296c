"""Training: the objective, the trainer, and the files of a run."""
