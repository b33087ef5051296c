"""Atomic writing of files, and readers that do not trust their content."""
