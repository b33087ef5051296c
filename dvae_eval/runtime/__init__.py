"""Where estimates run: processes, memory, and the files that let an interrupted one continue."""
