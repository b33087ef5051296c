"""The figures of a run: functions from results to matplotlib Axes, which write no files."""
