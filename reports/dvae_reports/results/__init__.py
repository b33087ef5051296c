"""Results and runs as values, for tables, figures and the report."""
