"""Processes, memory and time of estimates, and the files with which an interrupted one continues."""
