"""The paper's model, to be read beside it: prior, posterior, smoothing, networks, and the DVAE that joins them."""
