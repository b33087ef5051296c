"""The lines that commands print about results, one module per result."""
