"""The HTML report on runs, and on machines from files."""
