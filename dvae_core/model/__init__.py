"""The paper's model, to be read beside the paper: prior, posterior, smoothing, networks, and the DVAE."""
