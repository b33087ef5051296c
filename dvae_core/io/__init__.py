"""Files that are written whole or not at all, and readers that trust none."""
