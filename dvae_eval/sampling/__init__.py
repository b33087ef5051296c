"""What moves states between independent units and the machine: paths, ladders, tempering, annealing."""
