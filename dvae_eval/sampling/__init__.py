"""What moves states between independent units and the machine: paths, replicates, tempering, annealing."""
