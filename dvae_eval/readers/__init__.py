"""Readers of Boltzmann machines: one module per family of formats, and a registry that recognises the format.

`read_machine` recognises a file by its content, and returns a machine over {0,1} with the constant to add to its
log Z for the file's own convention.  No reader executes anything in a file.
"""

from .options import ReadConfig, Reading
from .registry import read_machine, recognise
from .trajectories import read_trajectory

__all__ = ["ReadConfig", "Reading", "read_machine", "read_trajectory", "recognise"]
